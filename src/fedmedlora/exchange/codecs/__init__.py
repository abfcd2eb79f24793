"""How arrays are written for the way, one file per codec. See ``exchange/codec.py`` for the laws."""
