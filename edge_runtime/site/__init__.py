"""What a site teaches: how rare its scores are, when its pictures change, how many events a day it bears."""
