#!/usr/bin/env bash
# The notes that the studies here name, out of the open corpora: studies/notes.sh CORPORA NOTES
#   CORPORA  a folder with the corpora in their publishers' formats, one folder each
#            (docs/open-corpora.md says where they come from; `fedmedlora corpora fetch` brings most of them)
#   NOTES    where the notes go; the study files expect studies/notes
set -euo pipefail
corpora=$1
notes=$2
mkdir -p "$notes"

raw() { if [ -d "$corpora/$1/raw" ]; then echo "$corpora/$1/raw"; else echo "$corpora/$1"; fi; }
convert() { [ -e "$notes/$1.jsonl" ] || fedmedlora corpora convert "$1" "$(raw "$1")" "$notes/$1.jsonl"; }
split() { [ -e "$notes/$1/test.jsonl" ] || fedmedlora corpora split "$notes/$1.jsonl" --out "$notes/$1" --parts "$2" --seed 1; }

convert kiwi_mtsamples
split kiwi_mtsamples own  # its own parts, train and test
if [ ! -e "$notes/kiwi_mtsamples/validation.jsonl" ]; then
  mv "$notes/kiwi_mtsamples/train.jsonl" "$notes/kiwi_mtsamples-train.jsonl"
  fedmedlora corpora split "$notes/kiwi_mtsamples-train.jsonl" --out "$notes/kiwi_mtsamples-parts" \
    --parts train=0.88,validation=0.12 --seed 1
  mv "$notes"/kiwi_mtsamples-parts/*.jsonl "$notes/kiwi_mtsamples/"
fi
for name in maccrobat2020 chia; do
  convert "$name"
  split "$name" train=0.7,validation=0.1,test=0.2
done
convert lct
split lct train=0.5,test=0.5
convert phee
# full.toml alone has this one.
if [ -d "$corpora/ncbi_disease" ] || [ -e "$notes/ncbi_disease.jsonl" ]; then convert ncbi_disease; fi
