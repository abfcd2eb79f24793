"""The numbers of a run for those who keep them elsewhere: one file per tracker."""
