package store

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
)

// ComputeHash returns the hash that the revision must carry. It is the SHA-256 of these bytes, one after the other:
//
//	seq, parent          8 bytes each, big-endian
//	at                   8 bytes, big-endian: milliseconds since 1970-01-01 UTC
//	author, reason       a text each
//	number of parts      4 bytes, big-endian
//	for every part       its name as a text, then the 32 bytes of its digest; in ascending byte order of the names
//	previous             32 bytes
//
// where a text is its length in bytes, as 4 bytes big-endian, and its UTF-8 bytes. Since previous is the parent's hash,
// the hash of the head vouches for the whole history and, through the digests, for every content.
func (r *Revision) ComputeHash() Digest {
	encoded := make([]byte, 0, 256)
	text := func(s string) {
		encoded = binary.BigEndian.AppendUint32(encoded, uint32(len(s)))
		encoded = append(encoded, s...)
	}
	encoded = binary.BigEndian.AppendUint64(encoded, r.Seq)
	encoded = binary.BigEndian.AppendUint64(encoded, r.Parent)
	encoded = binary.BigEndian.AppendUint64(encoded, uint64(r.At.UnixMilli()))
	text(r.Author)
	text(r.Reason)
	encoded = binary.BigEndian.AppendUint32(encoded, uint32(len(r.Parts)))
	for _, name := range slices.Sorted(maps.Keys(r.Parts)) {
		digest := r.Parts[name]
		text(name)
		encoded = append(encoded, digest[:]...)
	}
	encoded = append(encoded, r.Previous[:]...)
	return sha256.Sum256(encoded)
}
