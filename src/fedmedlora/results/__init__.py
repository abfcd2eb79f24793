"""What ``results.json`` holds, and whether it does: numbers and labels, wherever they come from."""
