//! What an operator asks for, checked before anything is touched. Whatever is wrong is answered
//! with one line that names the flag and the remedy.

mod duration;
mod flags;
mod server;
mod url;

pub use flags::{FlagError, Flags, USAGE_HINT, flag_help};
pub use server::{
    AutoCompaction, ClusterMember, ConfigError, ConnectionOptions, HttpOptions, InitialState,
    LeaseMode, LogFormat, LogOptions, LogOutput, ServerConfig, TlsOptions, TlsSide, TlsVersion,
};
pub use url::{Url, UrlError};
