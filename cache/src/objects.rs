//! Objects: the content of one regular file, stored once.
