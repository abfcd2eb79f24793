"""Base model and LoRA: load, attach, read and write an Adapter; text to token ids."""
