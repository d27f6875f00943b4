//! Lines of JSON with the keys of etcd's, because whoever collects its logs looks for them: `level`,
//! `ts`, `caller`, `msg`, and then whatever else is told.

use std::fmt;
use std::path::Path;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// See the module.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = metadata.level().as_str().to_ascii_lowercase();
        write!(writer, "{{\"level\":\"{level}\",\"ts\":\"")?;
        SystemTime.format_time(&mut writer)?;
        let caller = caller(metadata.file(), metadata.line());
        let mut told = Told::default();
        event.record(&mut told);
        let message = Value::from(told.message);
        write!(writer, "\",\"caller\":{},\"msg\":{message}", Value::from(caller))?;
        for (name, value) in told.fields {
            write!(writer, ",{}:{value}", Value::from(name))?;
        }
        writeln!(writer, "}}")
    }
}

/// The file with the directory that it is in, as etcd names them, and the line.
fn caller(file: Option<&str>, line: Option<u32>) -> String {
    let path = Path::new(file.unwrap_or("unknown"));
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let directory = path.parent().and_then(name).map_or_else(String::new, |name| name + "/");
    let file = name(path).unwrap_or_default();
    format!("{directory}{file}:{}", line.unwrap_or(0))
}

/// What an event tells, in its order.
#[derive(Default)]
struct Told {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Told {
    fn tell(&mut self, field: &Field, value: impl Into<Value>) {
        self.fields.push((field.name(), value.into()));
    }
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => self.tell(field, format!("{value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            _ => self.tell(field, value),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.tell(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.tell(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.tell(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.tell(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_etcds_keys_and_then_all_that_is_told() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(JsonLines)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(count = 7, ratio = 0.5, late = true, who = %"\"m0\"", "it is {}", "late");
        });
        let bytes = lines.0.lock().expect("nobody panics").clone();
        let text = String::from_utf8(bytes).expect("text");
        let (start, rest) = text.split_once(",\"caller\":").expect("a caller");
        let time = start.strip_prefix("{\"level\":\"warn\",\"ts\":\"").expect("level and time");
        let time = time.strip_suffix("Z\"").expect("of the world");
        assert!(time.len() == "2026-11-23T22:21:36.492710".len() && &time[10..11] == "T", "{time}");
        let caller = rest.split(',').next().expect("a caller");
        assert!(caller.starts_with("\"logging/lines.rs:"), "{caller}");
        let told = "\"msg\":\"it is late\",\"count\":7,\"ratio\":0.5,\"late\":true,\"who\":\"\\\"m0\\\"\"}\n";
        assert!(text.ends_with(told), "{text}");
        serde_json::from_str::<Value>(&text).expect("JSON");
    }

    #[test]
    fn callers_are_named_by_their_directory() {
        let of = |file| caller(file, Some(7));
        assert_eq!(of(Some("crates/server/src/member/mod.rs")), "member/mod.rs:7");
        assert_eq!(of(Some("main.rs")), "main.rs:7");
        assert_eq!(of(None), "unknown:7");
    }
}
