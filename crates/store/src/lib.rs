//! The records of the key-value store on disk
