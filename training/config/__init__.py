"""The records that a run is described by, and how words become them."""
