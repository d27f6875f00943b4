// Package client_test is what users of etcd's official Go client rely on, put to a running cluster by
// that client. ENDPOINTS names its members, separated by commas. Every test stands on what etcd
// itself answers: the suite passes against a real etcd of the same version too.
package client_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// patience is longer than anything here takes; only a test that fails waits for it.
const patience = 20 * time.Second

var used atomic.Int64

func endpoints(t *testing.T) []string {
	t.Helper()
	endpoints := os.Getenv("ENDPOINTS")
	if endpoints == "" {
		t.Fatal("ENDPOINTS names no cluster")
	}
	return strings.Split(endpoints, ",")
}

// connect answers a client of these members, or of all.
func connect(t *testing.T, members ...string) *clientv3.Client {
	t.Helper()
	if len(members) == 0 {
		members = endpoints(t)
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   members,
		DialTimeout: patience,
		// It reports every refusal, and most here are wanted.
		Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// fresh answers a prefix that no other test has used.
func fresh(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("%s/%d-%d/", t.Name(), os.Getpid(), used.Add(1))
}

func put(t *testing.T, client *clientv3.Client, key, value string, options ...clientv3.OpOption) int64 {
	t.Helper()
	answer, err := client.Put(within(t), key, value, options...)
	if err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
	return answer.Header.Revision
}

func get(t *testing.T, client *clientv3.Client, key string, options ...clientv3.OpOption) *clientv3.GetResponse {
	t.Helper()
	answer, err := client.Get(within(t), key, options...)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return answer
}

// values writes down what a get found, without the prefix that all its keys have.
func values(prefix string, answer *clientv3.GetResponse) string {
	var found []string
	for _, kv := range answer.Kvs {
		found = append(found, strings.TrimPrefix(string(kv.Key), prefix)+"="+string(kv.Value))
	}
	return strings.Join(found, " ")
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// refused demands this very error: clients tell errors by code and text.
func refused(t *testing.T, what string, err, want error) {
	t.Helper()
	if err == nil {
		t.Fatalf("%s: not refused", what)
	}
	got := rpctypes.Error(err)
	if got.Error() != rpctypes.Error(want).Error() {
		t.Fatalf("%s: refused with %q, want %q", what, got, rpctypes.Error(want))
	}
	gotError, isEtcd := got.(rpctypes.EtcdError)
	wantError, _ := rpctypes.Error(want).(rpctypes.EtcdError)
	if isEtcd && gotError.Code() != wantError.Code() {
		t.Fatalf("%s: refused with code %v, want %v", what, gotError.Code(), wantError.Code())
	}
}

// eventually waits until what is told of holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx := within(t)
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
