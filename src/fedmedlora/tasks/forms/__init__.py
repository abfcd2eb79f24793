"""One file per output form; the file's name is the form's. ``tasks/form.py`` says what such a file holds."""
