//! Compiles the `.proto` files in pure Rust, so that nobody has to install `protoc`.

use std::error::Error;

/// Every file with a service or a message of its own; imports are found from here.
const PROTO_FILES: [&str; 5] =
    ["etcd/rpc.proto", "etcd/lock.proto", "etcd/election.proto", "raft_node.proto", "peer.proto"];
const PROTO_DIR: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO_DIR}");
    println!("cargo::rerun-if-changed=build.rs");
    let descriptors = protox::compile(PROTO_FILES, [PROTO_DIR])?;
    tonic_prost_build::configure()
        // Slices of the receive buffer: whoever keeps one beyond the request copies it first.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
