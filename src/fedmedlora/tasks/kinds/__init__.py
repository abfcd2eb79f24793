"""One file per task; the file's name is the task's name. ``tasks/task.py`` says what such a file holds."""
