"""The report of a study of many runs: what each part of its page shows, as tables and figures."""
