//! Compiles the `.proto` files in pure Rust, so that nobody has to install `protoc`.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use protox::file::File;
use protox::prost::Message;
use protox::prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Every file with a service or a message of its own; imports are found from here.
const PROTO_FILES: [&str; 5] =
    ["etcd/rpc.proto", "etcd/lock.proto", "etcd/election.proto", "raft_node.proto", "peer.proto"];
const PROTO_DIR: &str = "proto";
/// What etcd's API looks like to a program that runs, with etcd's own names of fields.
const DESCRIPTORS: &str = "etcd_descriptors.bin";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO_DIR}");
    println!("cargo::rerun-if-changed=build.rs");
    let descriptors = protox::compile(PROTO_FILES, [PROTO_DIR])?;
    let described = with_names_of_etcd(&descriptors)?.encode_to_vec();
    fs::write(Path::new(&env::var("OUT_DIR")?).join(DESCRIPTORS), described)?;
    tonic_prost_build::configure()
        // Slices of the receive buffer: whoever keeps one beyond the request copies it first.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}

/// etcd's part of it, each field under the name that it has in etcd: the one that its `json_name`
/// says, where there is one. Compiling makes up a `json_name` for all others, so the sources are
/// looked at again.
fn with_names_of_etcd(compiled: &FileDescriptorSet) -> Result<FileDescriptorSet, Box<dyn Error>> {
    let mut files = Vec::new();
    for file in compiled.file.iter().filter(|file| file.name().starts_with("etcd/")) {
        let source = fs::read_to_string(Path::new(PROTO_DIR).join(file.name()))?;
        let parsed = File::from_source(file.name(), &source)?;
        let mut file = file.clone();
        rename_fields(&mut file, parsed.file_descriptor_proto());
        files.push(file);
    }
    Ok(FileDescriptorSet { file: files })
}

fn rename_fields(file: &mut FileDescriptorProto, parsed: &FileDescriptorProto) {
    for (message, parsed) in file.message_type.iter_mut().zip(&parsed.message_type) {
        rename_in_message(message, parsed);
    }
}

fn rename_in_message(message: &mut DescriptorProto, parsed: &DescriptorProto) {
    for (field, parsed) in message.field.iter_mut().zip(&parsed.field) {
        if let Some(name) = &parsed.json_name {
            field.name = Some(name.clone());
        }
    }
    for (inner, parsed) in message.nested_type.iter_mut().zip(&parsed.nested_type) {
        rename_in_message(inner, parsed);
    }
}
