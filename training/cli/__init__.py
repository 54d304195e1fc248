"""The `ponder` verbs, one thin file each: options and print."""
