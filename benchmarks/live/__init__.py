"""Live cameras by the dozen: how many one `hh-edge run` feeds, where its time goes, and how soon all are there."""
