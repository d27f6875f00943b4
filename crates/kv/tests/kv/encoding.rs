//! The command format. It is in every log, so what it accepts and refuses is fixed here.

use proptest::prelude::*;
use quorate_kv::{
    Command, CompactionRequest, Compare, CompareResult, CompareTarget, DecodeError, KeyRange,
    LeaseExpireRequest, LeaseGrantRequest, LeaseId, PutRequest, Revision, TXN_DEPTH_MAX,
    TxnRequest,
};

use crate::strategies;

fn encoded(command: &Command) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.encode(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself(command in strategies::command()) {
        prop_assert_eq!(Command::decode(&encoded(&command)), Ok(command));
    }

    #[test]
    fn every_prefix_is_refused_as_truncated(command in strategies::command()) {
        let bytes = encoded(&command);
        for length in 0..bytes.len() {
            let refused = matches!(
                Command::decode(&bytes[..length]),
                Err(DecodeError::Truncated { .. })
            );
            prop_assert!(refused, "{} of {} bytes", length, bytes.len());
        }
    }

    /// What decodes at all means what its bytes say: encoded again it decodes to the same.
    #[test]
    fn any_bytes_are_a_command_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(command) = Command::decode(&bytes) {
            prop_assert_eq!(Command::decode(&encoded(&command)), Ok(command));
        }
    }

    /// Damage to a real command gets further into the decoder than noise does.
    #[test]
    fn a_damaged_command_is_a_command_or_an_error(
        command in strategies::command(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&command);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(command) = Command::decode(&bytes) {
            prop_assert_eq!(Command::decode(&encoded(&command)), Ok(command));
        }
    }
}

/// These bytes are in logs; a change to them is a new version of the format.
#[test]
fn the_bytes_of_version_1() {
    let put = Command::Put(PutRequest {
        key: b"k".to_vec(),
        value: b"v".to_vec(),
        lease: LeaseId(-1),
        previous: true,
        ignore_value: false,
        ignore_lease: true,
    });
    assert_eq!(encoded(&put), [1, 1, 1, b'k', 1, b'v', 1, 0b101]);

    let compact = CompactionRequest { revision: Revision(i64::MIN), physical: true };
    assert_eq!(
        encoded(&Command::Compact(compact)),
        [1, 4, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1]
    );

    let grant = LeaseGrantRequest { lease: LeaseId(i64::MAX), ttl_seconds: 60 };
    assert_eq!(
        encoded(&Command::LeaseGrant(grant)),
        [1, 6, 254, 255, 255, 255, 255, 255, 255, 255, 255, 1, 120]
    );
    assert_eq!(encoded(&Command::LeaseRevoke(LeaseId(-1))), [1, 7, 1]);
    let expire =
        LeaseExpireRequest { term: 300, last_grant: 5, leases: vec![LeaseId(2), LeaseId(1)] };
    assert_eq!(encoded(&Command::LeaseExpire(expire)), [1, 8, 172, 2, 5, 2, 4, 2]);

    let compare = Compare {
        range: KeyRange { key: b"k".to_vec(), range_end: b"\0".to_vec() },
        result: CompareResult::NotEqual,
        target: CompareTarget::Value(b"v".to_vec()),
    };
    let txn = Command::Txn(TxnRequest { compare: vec![compare], ..TxnRequest::default() });
    assert_eq!(encoded(&txn), [1, 3, 1, 1, b'k', 1, 0, 3, 4, 1, b'v', 0, 0]);
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let refusal = |bytes: &[u8]| Command::decode(bytes).unwrap_err();
    assert_eq!(refusal(&[2, 1]), DecodeError::UnknownVersion { version: 2 });
    assert_eq!(refusal(&[0]), DecodeError::UnknownVersion { version: 0 });
    assert_eq!(refusal(&[1, 9]), DecodeError::UnknownTag { what: "command", tag: 9 });
    // A range is an operation, not a command: reads are not in the log.
    assert_eq!(refusal(&[1, 5]), DecodeError::UnknownTag { what: "command", tag: 5 });
    assert_eq!(refusal(&[1, 3, 0, 1, 9]), DecodeError::UnknownTag { what: "operation", tag: 9 });
    assert_eq!(refusal(&[1, 4, 0, 2]), DecodeError::UnknownTag { what: "flags", tag: 2 });
    assert_eq!(refusal(&[1, 4, 0, 0, 7]), DecodeError::TrailingBytes { count: 1 });
}

/// A length is a claim of whoever wrote it, and no reason to reserve memory.
#[test]
fn a_length_beyond_the_bytes_is_refused_at_once() {
    let longest = [255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
    let key = [&[1, 1][..], &longest].concat();
    assert_eq!(Command::decode(&key), Err(DecodeError::Truncated { needed: u64::MAX }));
    let list = [&[1, 3][..], &longest].concat();
    assert_eq!(Command::decode(&list), Err(DecodeError::Truncated { needed: 1 }));
}

#[test]
fn a_number_of_more_than_64_bits_is_refused() {
    let mut bytes = vec![1, 4, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2, 0];
    assert_eq!(Command::decode(&bytes), Err(DecodeError::NumberTooLong));
    bytes[11] = 255;
    assert_eq!(Command::decode(&bytes), Err(DecodeError::NumberTooLong));
}

#[test]
fn transactions_nest_so_deep_and_no_deeper() {
    let deepest = strategies::nested(TXN_DEPTH_MAX);
    assert_eq!(Command::decode(&encoded(&deepest)), Ok(deepest));
    let deeper = encoded(&strategies::nested(TXN_DEPTH_MAX + 1));
    assert_eq!(Command::decode(&deeper), Err(DecodeError::TooDeep));
    // A hundred thousand levels cost no stack either.
    let bottomless = [&[1, 3][..], &[0, 1, 3].repeat(100_000)].concat();
    assert_eq!(Command::decode(&bottomless), Err(DecodeError::TooDeep));
}
