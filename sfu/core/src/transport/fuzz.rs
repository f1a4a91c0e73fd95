//! Entry points for the fuzz targets and for the test that replays their corpus.
//!
//! Each takes arbitrary bytes and must return: no panic, no read past the end, no unbounded work.
