package client_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestPutGetDelete(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	first := put(t, client, prefix+"a", "1")
	second := put(t, client, prefix+"a", "2")
	same(t, "revision", second, first+1)
	kv := get(t, client, prefix+"a").Kvs[0]
	same(t, "create", kv.CreateRevision, first)
	same(t, "mod", kv.ModRevision, second)
	same(t, "version", kv.Version, 2)
	old := get(t, client, prefix+"a", clientv3.WithRev(first))
	same(t, "at a revision", values(prefix, old), "a=1")
	same(t, "header of an old read", old.Header.Revision >= second, true)

	answer, err := client.Put(within(t), prefix+"a", "3", clientv3.WithPrevKV())
	same(t, "put", err, nil)
	same(t, "previous", string(answer.PrevKv.Value), "2")
	_, err = client.Put(within(t), prefix+"a", "", clientv3.WithIgnoreValue())
	same(t, "ignore value", err, nil)
	same(t, "kept", values(prefix, get(t, client, prefix+"a")), "a=3")

	deleted, err := client.Delete(within(t), prefix, clientv3.WithPrefix(), clientv3.WithPrevKV())
	same(t, "delete", err, nil)
	same(t, "deleted", deleted.Deleted, 1)
	same(t, "what was there", string(deleted.PrevKvs[0].Value), "3")
	nothing, err := client.Delete(within(t), prefix+"a")
	same(t, "delete again", err, nil)
	same(t, "revision of nothing", nothing.Header.Revision, deleted.Header.Revision)
	same(t, "gone", len(get(t, client, prefix+"a").Kvs), 0)
}

func TestRanges(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	first := put(t, client, prefix+"a", "9")
	put(t, client, prefix+"b", "8")
	put(t, client, prefix+"c", "7")
	last := put(t, client, prefix+"b", "6")
	ascend, descend := clientv3.SortAscend, clientv3.SortDescend
	cases := []struct {
		name    string
		options []clientv3.OpOption
		want    string
	}{
		{"prefix", nil, "a=9 b=6 c=7"},
		{"by key, down", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByKey, descend)}, "c=7 b=6 a=9"},
		{"by version", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByVersion, descend)}, "b=6 a=9 c=7"},
		{"by creation", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByCreateRevision, descend)}, "c=7 b=6 a=9"},
		{"by change", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByModRevision, descend)}, "b=6 c=7 a=9"},
		{"by value", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByValue, ascend)}, "b=6 c=7 a=9"},
		{"limit", []clientv3.OpOption{clientv3.WithLimit(2)}, "a=9 b=6"},
		{"keys only", []clientv3.OpOption{clientv3.WithKeysOnly()}, "a= b= c="},
		{"from a change on", []clientv3.OpOption{clientv3.WithMinModRev(last)}, "b=6"},
		{"up to a change", []clientv3.OpOption{clientv3.WithMaxModRev(last - 1)}, "a=9 c=7"},
		{"created later", []clientv3.OpOption{clientv3.WithMinCreateRev(first + 1)}, "b=6 c=7"},
		{"created earlier", []clientv3.OpOption{clientv3.WithMaxCreateRev(first)}, "a=9"},
		{"at a revision", []clientv3.OpOption{clientv3.WithRev(last - 1)}, "a=9 b=8 c=7"},
		{"as it is here", []clientv3.OpOption{clientv3.WithSerializable(), clientv3.WithRev(last)}, "a=9 b=6 c=7"},
	}
	for _, test := range cases {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			// A serializable read may come to a member that has not heard of it all yet.
			eventually(t, test.want, func() bool {
				answer, err := client.Get(within(t), prefix, append(test.options, clientv3.WithPrefix())...)
				return err == nil && values(prefix, answer) == test.want
			})
		})
	}
	counted := get(t, client, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	same(t, "count", counted.Count, 3)
	same(t, "no keys", len(counted.Kvs), 0)
	limited := get(t, client, prefix, clientv3.WithPrefix(), clientv3.WithLimit(2))
	same(t, "more", limited.More, true)
	same(t, "count beside a limit", limited.Count, 3)
	from := get(t, client, prefix+"b", clientv3.WithFromKey(), clientv3.WithLimit(2))
	same(t, "from a key on", values(prefix, from), "b=6 c=7")
	to := get(t, client, prefix+"a", clientv3.WithRange(prefix+"c"))
	same(t, "up to a key", values(prefix, to), "a=9 b=6")
}

func TestRangeStream(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	value := strings.Repeat("v", 4096)
	for number := range 600 {
		put(t, client, fmt.Sprintf("%s%04d", prefix, number), value)
	}
	stream, err := client.GetStream(within(t), prefix, clientv3.WithPrefix())
	same(t, "stream", err, nil)
	answer, err := clientv3.GetStreamToGetResponse(stream)
	same(t, "pieces", err, nil)
	whole := get(t, client, prefix, clientv3.WithPrefix())
	same(t, "count", answer.Count, whole.Count)
	same(t, "all", values(prefix, answer), values(prefix, whole))
}

func TestTransactions(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	key := prefix + "a"
	txn := func(compare clientv3.Cmp) bool {
		// With something to read, or etcd answers from whatever the member has.
		answer, err := client.Txn(within(t)).If(compare).Then(clientv3.OpGet(key)).Else(clientv3.OpGet(key)).Commit()
		same(t, "txn", err, nil)
		return answer.Succeeded
	}
	same(t, "nothing has version 0", txn(clientv3.Compare(clientv3.Version(key), "=", 0)), true)
	same(t, "nothing has no value", txn(clientv3.Compare(clientv3.Value(key), "!=", "x")), false)
	revision := put(t, client, key, "b")
	cases := []struct {
		name    string
		compare clientv3.Cmp
		want    bool
	}{
		{"value =", clientv3.Compare(clientv3.Value(key), "=", "b"), true},
		{"value >", clientv3.Compare(clientv3.Value(key), ">", "a"), true},
		{"value <", clientv3.Compare(clientv3.Value(key), "<", "a"), false},
		{"value !=", clientv3.Compare(clientv3.Value(key), "!=", "b"), false},
		{"version", clientv3.Compare(clientv3.Version(key), "=", 1), true},
		{"create", clientv3.Compare(clientv3.CreateRevision(key), "=", revision), true},
		{"mod", clientv3.Compare(clientv3.ModRevision(key), ">", revision), false},
		{"lease", clientv3.Compare(clientv3.LeaseValue(key), "=", clientv3.NoLease), true},
		{"range", clientv3.Compare(clientv3.Version(prefix).WithPrefix(), "=", 1), true},
	}
	for _, test := range cases {
		same(t, test.name, txn(test.compare), test.want)
	}

	answer, err := client.Txn(within(t)).
		If(clientv3.Compare(clientv3.Version(key), "=", 1)).
		Then(
			clientv3.OpPut(key, "c"),
			clientv3.OpGet(key),
			clientv3.OpPut(prefix+"b", "d"),
			clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.Value(key), "=", "b")},
				[]clientv3.Op{clientv3.OpGet(prefix, clientv3.WithPrefix())},
				[]clientv3.Op{clientv3.OpDelete(prefix + "none")}),
		).
		Else(clientv3.OpDelete(key)).Commit()
	same(t, "txn", err, nil)
	same(t, "succeeded", answer.Succeeded, true)
	same(t, "one revision", answer.Header.Revision, revision+1)
	seen := (*clientv3.GetResponse)(answer.Responses[1].GetResponseRange())
	same(t, "its own write", values(prefix, seen), "a=c")
	nested := answer.Responses[3].GetResponseTxn()
	same(t, "compared before", nested.Succeeded, true)
	seen = (*clientv3.GetResponse)(nested.Responses[0].GetResponseRange())
	same(t, "both", values(prefix, seen), "a=c b=d")
}

func TestKubernetesTransactions(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	key := prefix + "pod"
	write := func(seen int64, value string) *clientv3.TxnResponse {
		answer, err := client.Txn(within(t)).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", seen)).
			Then(clientv3.OpPut(key, value)).
			Else(clientv3.OpGet(key)).Commit()
		same(t, "txn", err, nil)
		return answer
	}
	created := write(0, "1")
	same(t, "created", created.Succeeded, true)
	lost := write(0, "2")
	same(t, "not created again", lost.Succeeded, false)
	same(t, "what is there", string(lost.Responses[0].GetResponseRange().Kvs[0].Value), "1")
	same(t, "updated", write(created.Header.Revision, "3").Succeeded, true)
}

func TestErrors(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	ctx := within(t)
	revision := put(t, client, prefix+"a", "1")
	last := put(t, client, prefix+"a", "2")

	_, err := client.Put(ctx, "", "v")
	refused(t, "empty key", err, rpctypes.ErrGRPCEmptyKey)
	_, err = client.Put(ctx, prefix+"none", "", clientv3.WithIgnoreValue())
	refused(t, "ignore value of nothing", err, rpctypes.ErrGRPCKeyNotFound)
	_, err = client.Put(ctx, prefix+"none", "v", clientv3.WithIgnoreLease())
	refused(t, "ignore lease of nothing", err, rpctypes.ErrGRPCKeyNotFound)
	_, err = client.Put(ctx, prefix+"a", "v", clientv3.WithIgnoreValue())
	refused(t, "value beside ignore value", err, rpctypes.ErrGRPCValueProvided)
	_, err = client.Put(ctx, prefix+"a", "v", clientv3.WithLease(4242))
	refused(t, "unknown lease", err, rpctypes.ErrGRPCLeaseNotFound)
	_, err = client.Get(ctx, prefix+"a", clientv3.WithRev(last+1000000))
	refused(t, "future", err, rpctypes.ErrGRPCFutureRev)
	_, err = client.Put(ctx, prefix+"big", strings.Repeat("v", 1600*1024))
	refused(t, "too large", err, rpctypes.ErrGRPCRequestTooLarge)
	many := make([]clientv3.Op, 129)
	for number := range many {
		many[number] = clientv3.OpGet(prefix + "a")
	}
	_, err = client.Txn(ctx).Then(many...).Commit()
	refused(t, "too many operations", err, rpctypes.ErrGRPCTooManyOps)
	_, err = client.Txn(ctx).Then(clientv3.OpPut(prefix+"a", "1"), clientv3.OpPut(prefix+"a", "2")).Commit()
	refused(t, "duplicate key", err, rpctypes.ErrGRPCDuplicateKey)
	_, err = client.Compact(ctx, last+1000000)
	refused(t, "compact the future", err, rpctypes.ErrGRPCFutureRev)
	_, err = client.Compact(ctx, last)
	same(t, "compact", err, nil)
	_, err = client.Compact(ctx, revision)
	refused(t, "compact again", err, rpctypes.ErrGRPCCompacted)
	_, err = client.Get(ctx, prefix+"a", clientv3.WithRev(revision))
	refused(t, "compacted", err, rpctypes.ErrGRPCCompacted)
	same(t, "at the compact revision", values(prefix, get(t, client, prefix+"a", clientv3.WithRev(last))), "a=2")

	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err = client.Get(over, prefix+"a"); err != context.Canceled {
		t.Fatalf("a call that was given up: %v", err)
	}
}

func TestEveryMemberSeesWhatWasWritten(t *testing.T) {
	prefix := fresh(t)
	for number, member := range endpoints(t) {
		value := fmt.Sprint(number)
		put(t, connect(t, member), prefix+"key", value)
		for _, reader := range endpoints(t) {
			same(t, reader, values(prefix, get(t, connect(t, reader), prefix+"key")), "key="+value)
		}
	}
}
