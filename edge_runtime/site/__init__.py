"""What a site teaches: operators' marks, the features they are about, and the scorer that is refitted to them."""
