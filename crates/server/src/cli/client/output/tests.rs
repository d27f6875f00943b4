use super::*;

fn key_value(key: &'static str, value: &'static [u8]) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value.into(),
        create_revision: 2,
        mod_revision: 3,
        version: 4,
        lease: 0,
    }
}

fn header() -> Option<wire::ResponseHeader> {
    let (cluster_id, member_id) = (0xc, u64::MAX);
    Some(wire::ResponseHeader { cluster_id, member_id, revision: 9, raft_term: 1 })
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_range_is_printed_in_the_shape_that_was_asked_for() {
    let kvs = vec![key_value("a", b"1"), key_value("b", b"2")];
    let response = wire::RangeResponse { header: header(), kvs, more: true, count: 7 };
    assert_eq!(text(range_text(&response, Shape::Value)), "1\n2\n");
    assert_eq!(text(range_text(&response, Shape::KeyValues)), "a\t1\nb\t2\n");
    assert_eq!(text(range_text(&response, Shape::Keys)), "a\nb\n");
    assert_eq!(text(range_text(&response, Shape::Count)), "7\n");
}

#[test]
fn a_transaction_names_its_branch_and_prints_each_answer() {
    let get = wire::RangeResponse { kvs: vec![key_value("a", b"1")], ..Default::default() };
    let put = wire::PutResponse { prev_kv: Some(key_value("b", b"2")), ..Default::default() };
    let del = wire::DeleteRangeResponse { deleted: 1, ..Default::default() };
    let responses = [
        Response::ResponseRange(get),
        Response::ResponsePut(put),
        Response::ResponseDeleteRange(del),
        Response::ResponseTxn(wire::TxnResponse { succeeded: true, ..Default::default() }),
    ];
    let responses = responses.map(|response| wire::ResponseOp { response: Some(response) });
    let txn = wire::TxnResponse { header: header(), succeeded: false, responses: responses.into() };
    assert_eq!(text(transaction_text(&txn)), "FAILURE\n\na\t1\n\nOK\nb\t2\n\n1\n\nSUCCESS\n");
    let json = transaction_json(&txn);
    assert_eq!(json["succeeded"], false);
    assert_eq!(json["responses"][0]["get"]["kvs"][0]["key"], "a");
    assert_eq!(json["responses"][1]["put"]["prev_kv"]["value"], "2");
    assert_eq!(json["responses"][2]["del"]["deleted"], 1);
    assert_eq!(json["responses"][3]["txn"]["succeeded"], true);
}

#[test]
fn bytes_that_are_no_text_are_printed_in_hexadecimal_to_scripts() {
    let response = wire::RangeResponse {
        header: header(),
        kvs: vec![key_value("a", b"\xff\x01")],
        more: false,
        count: 1,
    };
    assert_eq!(
        range_json(&response),
        json!({
            "revision": 9,
            "count": 1,
            "more": false,
            "kvs": [{
                "key": "a",
                "value_hex": "ff01",
                "create_revision": 2,
                "mod_revision": 3,
                "version": 4,
                "lease": null,
            }],
        })
    );
}

#[test]
fn a_missing_answer_has_its_line_in_the_table() {
    let endpoint = |text| Endpoint::parse(text, false).unwrap();
    let status = wire::StatusResponse {
        header: header(),
        version: "3.7.1".to_owned(),
        leader: u64::MAX,
        raft_term: 4,
        raft_index: 17,
        db_size: 1536,
        ..Default::default()
    };
    let failed = EndpointError {
        endpoint: endpoint("b:2"),
        text: "Connection refused".to_owned(),
        is_closed: true,
    };
    let statuses = [(endpoint("a:1"), Ok(status)), (endpoint("b:2"), Err(failed))];
    let expected = "\
ENDPOINT    MEMBER            ETCD API  LEADER  TERM  INDEX  DB SIZE  ERROR
http://a:1  ffffffffffffffff  3.7.1     itself  4     17     1.5 KiB
http://b:2  -                 -         -       -     -      -        Connection refused
";
    assert_eq!(text(statuses_text(&statuses)), expected);
    let json = statuses_json(&statuses);
    assert_eq!(json[0]["member"], "ffffffffffffffff");
    assert_eq!(json[0]["index"], 17);
    assert_eq!(json[1]["error"], "Connection refused");
}

#[test]
fn sizes_are_printed_for_people() {
    assert_eq!(bytes_text(0), "0 B");
    assert_eq!(bytes_text(1023), "1023 B");
    assert_eq!(bytes_text(1024), "1.0 KiB");
    assert_eq!(bytes_text(5 << 40), "5.0 TiB");
}
