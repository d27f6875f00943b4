package client_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// next answers what a watch tells next.
func next(t *testing.T, watch clientv3.WatchChan) clientv3.WatchResponse {
	t.Helper()
	select {
	case answer, open := <-watch:
		if !open {
			t.Fatal("the watch has ended")
		}
		return answer
	case <-within(t).Done():
		t.Fatal("the watch tells nothing")
	}
	panic("unreachable")
}

// events writes down so many of them, without the prefix that all their keys have.
func events(t *testing.T, watch clientv3.WatchChan, prefix string, count int) string {
	t.Helper()
	var told []string
	for len(told) < count {
		answer := next(t, watch)
		same(t, "watch", answer.Err(), nil)
		for _, event := range answer.Events {
			text := fmt.Sprintf("%s %s=%s", event.Type, strings.TrimPrefix(string(event.Kv.Key), prefix), event.Kv.Value)
			if event.PrevKv != nil {
				text += "(" + string(event.PrevKv.Value) + ")"
			}
			told = append(told, text)
		}
	}
	return strings.Join(told, ", ")
}

func remove(t *testing.T, client *clientv3.Client, key string) int64 {
	t.Helper()
	answer, err := client.Delete(within(t), key)
	if err != nil {
		t.Fatalf("delete %q: %v", key, err)
	}
	return answer.Header.Revision
}

func TestWatchFromNowOn(t *testing.T) {
	for _, member := range endpoints(t) {
		client, prefix := connect(t, member), fresh(t)
		put(t, client, prefix+"a", "0")
		watch := client.Watch(within(t), prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
		same(t, "created", next(t, watch).Created, true)
		put(t, client, prefix+"a", "1")
		put(t, client, prefix+"b", "1")
		remove(t, client, prefix+"a")
		put(t, client, prefix+"a", "2")
		told := events(t, watch, prefix, 4)
		same(t, member, told, "PUT a=1(0), PUT b=1, DELETE a=(1), PUT a=2")
	}
}

func TestWatchFromThePast(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	first := put(t, client, prefix+"a", "1")
	put(t, client, prefix+"other", "1")
	put(t, client, prefix+"a", "2")
	remove(t, client, prefix+"a")
	for _, member := range endpoints(t) {
		watch := connect(t, member).Watch(within(t), prefix+"a", clientv3.WithRev(first))
		same(t, member, events(t, watch, prefix, 3), "PUT a=1, PUT a=2, DELETE a=")
	}
	watch := client.Watch(within(t), prefix+"a", clientv3.WithRev(first+1), clientv3.WithPrevKV())
	same(t, "later", events(t, watch, prefix, 2), "PUT a=2(1), DELETE a=(2)")
}

func TestWatchFromTheFuture(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	revision := put(t, client, prefix+"a", "0")
	watch := client.Watch(within(t), prefix+"a", clientv3.WithRev(revision+3))
	for value := 1; value <= 4; value++ {
		put(t, client, prefix+"a", fmt.Sprint(value))
	}
	same(t, "from then on", events(t, watch, prefix, 2), "PUT a=3, PUT a=4")
}

func TestWatchFilters(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	first := put(t, client, prefix+"a", "1")
	remove(t, client, prefix+"a")
	put(t, client, prefix+"a", "2")
	remove(t, client, prefix+"a")
	puts := client.Watch(within(t), prefix+"a", clientv3.WithRev(first), clientv3.WithFilterDelete())
	same(t, "puts", events(t, puts, prefix, 2), "PUT a=1, PUT a=2")
	deletes := client.Watch(within(t), prefix+"a", clientv3.WithRev(first), clientv3.WithFilterPut())
	same(t, "deletes", events(t, deletes, prefix, 2), "DELETE a=, DELETE a=")
}

// What one transaction does is told at once, and a key's numbers with it.
func TestWatchTellsATransactionWhole(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	watch := client.Watch(within(t), prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	same(t, "created", next(t, watch).Created, true)
	var puts []clientv3.Op
	for number := range 100 {
		puts = append(puts, clientv3.OpPut(fmt.Sprintf("%s%03d", prefix, number), "v"))
	}
	done, err := client.Txn(within(t)).Then(puts...).Commit()
	same(t, "txn", err, nil)
	told := next(t, watch)
	same(t, "events", len(told.Events), 100)
	same(t, "revision", told.Header.Revision, done.Header.Revision)
	for _, event := range told.Events {
		same(t, "created", event.IsCreate(), true)
		same(t, "revision", event.Kv.ModRevision, done.Header.Revision)
	}
}

func TestWatchFragments(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	value := strings.Repeat("v", 200*1024)
	first := put(t, client, prefix+"0", value)
	for number := 1; number < 20; number++ {
		put(t, client, prefix+fmt.Sprint(number), value)
	}
	// The client puts fragments together again.
	watch := client.Watch(within(t), prefix, clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithFragment())
	seen := 0
	for seen < 20 {
		answer := next(t, watch)
		same(t, "watch", answer.Err(), nil)
		seen += len(answer.Events)
	}
}

func TestWatchOfWhatIsCompacted(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	first := put(t, client, prefix+"a", "1")
	deleted := remove(t, client, prefix+"a")
	put(t, client, prefix+"a", "2")
	_, err := client.Compact(within(t), deleted)
	same(t, "compact", err, nil)
	answer := next(t, client.Watch(within(t), prefix+"a", clientv3.WithRev(first)))
	same(t, "canceled", answer.Canceled, true)
	same(t, "compact revision", answer.CompactRevision, deleted)
	refused(t, "compacted", answer.Err(), rpctypes.ErrCompacted)
	// A deletion at the compact revision is still told.
	watch := client.Watch(within(t), prefix+"a", clientv3.WithRev(deleted))
	same(t, "from there", events(t, watch, prefix, 2), "DELETE a=, PUT a=2")
}

func TestWatchProgress(t *testing.T) {
	for _, member := range endpoints(t) {
		client, prefix := connect(t, member), fresh(t)
		ctx, cancel := context.WithCancel(within(t))
		watch := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		same(t, "created", next(t, watch).Created, true)
		revision := put(t, client, prefix+"a", "1")
		same(t, "told", events(t, watch, prefix, 1), "PUT a=1")
		same(t, "request", client.RequestProgress(ctx), nil)
		progress := next(t, watch)
		same(t, "progress", progress.IsProgressNotify(), true)
		same(t, "revision", progress.Header.Revision >= revision, true)
		cancel()
		eventually(t, "the end", func() bool { _, open := <-watch; return !open })
	}
}

func TestManyWatchersOfOneStream(t *testing.T) {
	const watchers = 500
	client, prefix := connect(t), fresh(t)
	ctx := within(t)
	var watches []clientv3.WatchChan
	for number := range watchers {
		watches = append(watches, client.Watch(ctx, fmt.Sprintf("%s%d", prefix, number), clientv3.WithCreatedNotify()))
	}
	for _, watch := range watches {
		same(t, "created", next(t, watch).Created, true)
	}
	for number := range watchers {
		put(t, client, fmt.Sprintf("%s%d", prefix, number), "v")
	}
	for number, watch := range watches {
		same(t, "told", events(t, watch, prefix, 1), fmt.Sprintf("PUT %d=v", number))
	}
}

// A lease that ends takes its keys along in one revision, which is told whole.
func TestWatchOfKeysThatALeaseTakesAlong(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	lease := grant(t, client, long)
	put(t, client, prefix+"b", "1", clientv3.WithLease(lease))
	last := put(t, client, prefix+"a", "1", clientv3.WithLease(lease))
	watch := client.Watch(within(t), prefix, clientv3.WithPrefix(), clientv3.WithRev(last+1))
	_, err := client.Revoke(within(t), lease)
	same(t, "revoke", err, nil)
	told := next(t, watch)
	same(t, "both", len(told.Events), 2)
	same(t, "sorted", string(told.Events[0].Kv.Key), prefix+"a")
	same(t, "at once", told.Events[0].Kv.ModRevision, told.Events[1].Kv.ModRevision)
}

func TestWatchNeedsALeaderWhereItSaysSo(t *testing.T) {
	client, prefix := connect(t), fresh(t)
	watch := client.Watch(clientv3.WithRequireLeader(within(t)), prefix+"a", clientv3.WithCreatedNotify())
	same(t, "created", next(t, watch).Created, true)
	put(t, client, prefix+"a", "1")
	same(t, "told", events(t, watch, prefix, 1), "PUT a=1")
}
