//! The quorate server, its APIs, its client and its command line

mod proto;
