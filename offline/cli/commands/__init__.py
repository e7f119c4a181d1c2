"""The commands of `hh-offline`, one file each."""
