//! What is held, and who holds it, as it is printed.

use serde_json::{Map, Value};

use super::{Output, insert_bytes, key_value_json, key_value_line, line};
use crate::client::{ClientError, Held};
use crate::proto::v3electionpb::LeaderResponse;

impl Output {
    /// A lock, or an office with what is proclaimed.
    pub(in crate::cli::client) fn held(
        &self,
        held: &Held,
        value: Option<&[u8]>,
    ) -> Result<(), ClientError> {
        let text = || match value {
            None => line(&[&held.key]),
            Some(value) => line(&[&held.key, value]),
        };
        let json = || {
            let mut object = Map::new();
            insert_bytes(&mut object, "key", &held.key);
            if let Some(value) = value {
                insert_bytes(&mut object, "value", value);
            }
            object.insert("create_revision".to_owned(), held.revision.into());
            Value::Object(object)
        };
        self.print(text, json)
    }

    /// Who is elected. Answers whether anybody still reads it.
    pub(in crate::cli::client) fn elected(
        &self,
        response: &LeaderResponse,
    ) -> Result<bool, ClientError> {
        let Some(kv) = &response.kv else { return Ok(true) };
        self.write(|| key_value_line(kv), || key_value_json(kv))
            .map(|goes_on| goes_on.is_continue())
    }
}
