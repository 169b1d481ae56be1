package rules

import (
	"encoding/binary"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Buckets is how many buckets there are; weights and bounds are parts of it, one basis point each.
const Buckets = 10_000

// BucketOf returns the bucket, 0 to 9,999, of an attribute's value: XXH64 (seed 0) modulo 10,000 over salt, attribute
// name, outer value or empty, value, each preceded by its length as 4 bytes big-endian. docs/buckets.md publishes it.
func BucketOf(salt, attribute, outer, value string) int {
	return bucketFrom(bucketPrefix(salt, attribute), outer, value)
}

// bucketPrefix returns the part of a bucket's hash input that a document fixes.
func bucketPrefix(salt, attribute string) []byte {
	prefix := make([]byte, 0, 8+len(salt)+len(attribute))
	for _, s := range [...]string{salt, attribute} {
		prefix = binary.BigEndian.AppendUint32(prefix, uint32(len(s)))
		prefix = append(prefix, s...)
	}
	return prefix
}

func bucketFrom(prefix []byte, outer, value string) int {
	var hash xxhash.Digest
	hash.Reset()
	_, _ = hash.Write(prefix) // a Digest never fails
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(outer)))
	_, _ = hash.Write(length[:])
	_, _ = hash.WriteString(outer)
	binary.BigEndian.PutUint32(length[:], uint32(len(value)))
	_, _ = hash.Write(length[:])
	_, _ = hash.WriteString(value)
	return int(hash.Sum64() % Buckets)
}

// A draw takes a request's bucket by the first of several attributes that is present.
type draw struct {
	salt string
	by   []drawAttribute
}

type drawAttribute struct {
	attributeRef
	pair   bool
	prefix []byte // see bucketPrefix
}

// from returns the bucket and the attribute it was drawn by; bucket is -1 if the request has none of them.
func (d *draw) from(q *Query) (bucket int, by *drawAttribute) {
	for i := range d.by {
		a := &d.by[i]
		value := a.of(q)
		if value == "" {
			continue
		}
		outer := ""
		if a.pair {
			outer, value, _ = strings.Cut(value, "/")
		}
		return bucketFrom(a.prefix, outer, value), a
	}
	return -1, nil
}
