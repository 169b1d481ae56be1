package rules

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// plainXXH64 is the hash written down from its specification, seed 0, to hold the library against.
func plainXXH64(input []byte) uint64 {
	const (
		p1 uint64 = 0x9E3779B185EBCA87
		p2 uint64 = 0xC2B2AE3D27D4EB4F
		p3 uint64 = 0x165667B19E3779F9
		p4 uint64 = 0x85EBCA77C2B2AE63
		p5 uint64 = 0x27D4EB2F165667C5
	)
	round := func(acc, lane uint64) uint64 { return bits.RotateLeft64(acc+lane*p2, 31) * p1 }
	rest, hash := input, p5
	if len(input) >= 32 {
		minusP1 := p1
		minusP1 = -minusP1
		acc := [4]uint64{p1, p2, 0, minusP1}
		acc[0] += acc[1]
		for ; len(rest) >= 32; rest = rest[32:] {
			for i := range acc {
				acc[i] = round(acc[i], binary.LittleEndian.Uint64(rest[8*i:]))
			}
		}
		hash = bits.RotateLeft64(acc[0], 1) + bits.RotateLeft64(acc[1], 7) +
			bits.RotateLeft64(acc[2], 12) + bits.RotateLeft64(acc[3], 18)
		for _, a := range acc {
			hash = (hash^round(0, a))*p1 + p4
		}
	}
	hash += uint64(len(input))
	for ; len(rest) >= 8; rest = rest[8:] {
		hash = bits.RotateLeft64(hash^round(0, binary.LittleEndian.Uint64(rest)), 27)*p1 + p4
	}
	if len(rest) >= 4 {
		hash = bits.RotateLeft64(hash^uint64(binary.LittleEndian.Uint32(rest))*p1, 23)*p2 + p3
		rest = rest[4:]
	}
	for _, b := range rest {
		hash = bits.RotateLeft64(hash^uint64(b)*p5, 11) * p1
	}
	hash ^= hash >> 33
	hash *= p2
	hash ^= hash >> 29
	hash *= p3
	return hash ^ hash>>32
}

// plainBucket is BucketOf written down from docs/buckets.md.
func plainBucket(salt, attribute, outer, value string) (hash uint64, bucket int) {
	var input []byte
	for _, s := range []string{salt, attribute, outer, value} {
		input = append(input, byte(len(s)>>24), byte(len(s)>>16), byte(len(s)>>8), byte(len(s)))
		input = append(input, s...)
	}
	hash = plainXXH64(input)
	return hash, int(hash % 10000)
}

var (
	vectorLine = regexp.MustCompile("(?m)^\\| `(.+?)` \\| `(.+?)` \\| (?:`(.+?)`|\\(empty\\)) \\| `(.+?)` " +
		"\\| `([0-9a-f]{16})` \\| (\\d+) \\|$")
	vectorInput = regexp.MustCompile(`(?m)^    ((?:[0-9a-f]{2} ?)+)$`)
)

func TestBucketVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/buckets.md")
	require.NoError(t, err)
	vectors := vectorLine.FindAllStringSubmatch(string(text), -1)
	require.Len(t, vectors, 10, "the table of docs/buckets.md")
	for _, v := range vectors {
		salt, attribute, outer, value := v[1], v[2], v[3], v[4]
		want, err := strconv.Atoi(v[6])
		require.NoError(t, err)
		hash, bucket := plainBucket(salt, attribute, outer, value)
		require.Equal(t, v[5], fmt.Sprintf("%016x", hash), v[0])
		require.Equal(t, want, bucket, v[0])
		require.Equal(t, want, BucketOf(salt, attribute, outer, value), v[0])
	}
	var input strings.Builder
	for _, line := range vectorInput.FindAllStringSubmatch(string(text), -1) {
		input.WriteString(strings.ReplaceAll(line[1], " ", ""))
	}
	first, err := hex.DecodeString(input.String())
	require.NoError(t, err)
	require.Equal(t, vectors[0][5], fmt.Sprintf("%016x", plainXXH64(first)))
}

func FuzzBucket(f *testing.F) {
	f.Add("loan-2026-11", "teller", "9001", "0001")
	f.Add("", "", "", "")
	f.Add("贷款", "channel", "", strings.Repeat("手机银行", 20))
	f.Fuzz(func(t *testing.T, salt, attribute, outer, value string) {
		_, want := plainBucket(salt, attribute, outer, value)
		if got := BucketOf(salt, attribute, outer, value); got != want {
			t.Fatalf("bucket %d, want %d", got, want)
		}
	})
}
