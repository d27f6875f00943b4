//! As much of protoc as build scripts ask for: definitions in, a set of descriptors out.

use std::path::PathBuf;

use lexopt::Arg;
use lexopt::ValueExt as _;
use protox::Compiler;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut includes, mut files, mut output) = (Vec::new(), Vec::<PathBuf>::new(), None);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Short('I') | Arg::Long("proto_path") => {
                includes.push(PathBuf::from(arguments.value()?));
            }
            Arg::Short('o') | Arg::Long("descriptor_set_out") => {
                output = Some(PathBuf::from(arguments.value()?));
            }
            Arg::Long("include_imports" | "include_source_info") => {}
            Arg::Long("experimental_allow_proto3_optional") => {}
            Arg::Long("version") => {
                println!("libprotoc 31.0");
                return Ok(());
            }
            Arg::Value(file) => files.push(file.parse::<PathBuf>()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let mut compiler = Compiler::new(includes)?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(files)?;
    std::fs::write(output.ok_or("where to, is not said")?, compiler.encode_file_descriptor_set())?;
    Ok(())
}
