package proxy

import (
	"encoding/binary"
	"math/rand/v2"
)

// goingAway is why a WebSocket is closed from here (RFC 6455, section 7.4.1), and what its closing frame says.
const (
	goingAway       = 1001
	goingAwayReason = "gateway going away"
)

const opcodeClose = 8

// frames follows the frames of one direction of a WebSocket, to know where one ends; it looks at nothing else in them and
// changes none (RFC 6455, section 5.2). What cannot be a frame makes it lose its way for good: it is not asked to judge.
type frames struct {
	masked bool // as those of clients are
	lost   bool // what has come is no WebSocket
	closed bool // a closing frame has passed; no frame may follow

	header [14]byte // of the frame under way
	have   int      // bytes of header that have come; 0 between frames
	need   int      // its length, as far as that is known
	left   uint64   // bytes of its payload that have not come
}

// between reports whether the last frame is complete, so that another may be put after it.
func (f *frames) between() bool { return !f.lost && f.have == 0 }

// follow takes note of all of p.
func (f *frames) follow(p []byte) {
	for len(p) > 0 {
		p = p[f.next(p):]
	}
}

// next takes note of p up to the end of the frame under way, or of all of it, and returns how much that is.
func (f *frames) next(p []byte) (n int) {
	for n < len(p) && !f.lost {
		if f.have == 0 {
			f.need = 2
		}
		if f.have < f.need {
			f.header[f.have] = p[n]
			f.have++
			n++
			if f.have < f.need || !f.begun() {
				continue
			}
		} else {
			took := min(f.left, uint64(len(p)-n))
			f.left -= took
			n += int(took)
		}
		if f.left == 0 {
			f.closed = f.closed || f.header[0]&0xf == opcodeClose
			f.have = 0
			return n
		}
	}
	return len(p)
}

// begun reads the header as far as it is there. It reports whether it is complete.
func (f *frames) begun() bool {
	first, length := f.header[0], f.header[1]&0x7f
	if f.have == 2 {
		opcode := first & 0xf
		control := opcode >= opcodeClose
		f.lost = f.header[1]&0x80 != 0 != f.masked || opcode&7 > 2 || control && (first&0x80 == 0 || length > 125)
		switch length {
		case 126:
			f.need += 2
		case 127:
			f.need += 8
		}
		if f.masked {
			f.need += 4
		}
		if f.need > 2 {
			return false
		}
	}
	switch length {
	case 126:
		f.left = uint64(binary.BigEndian.Uint16(f.header[2:]))
	case 127:
		f.left = binary.BigEndian.Uint64(f.header[2:])
		f.lost = f.left>>63 != 0
	default:
		f.left = uint64(length)
	}
	return !f.lost
}

// appendClose appends a closing frame that says goingAway, masked where it has to be.
func appendClose(dst []byte, masked bool) []byte {
	dst = append(dst, 0x80|opcodeClose, 2+byte(len(goingAwayReason)))
	if !masked {
		return append(binary.BigEndian.AppendUint16(dst, goingAway), goingAwayReason...)
	}
	dst[len(dst)-1] |= 0x80
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], rand.Uint32())
	dst = append(dst, mask[:]...)
	start := len(dst)
	dst = append(binary.BigEndian.AppendUint16(dst, goingAway), goingAwayReason...)
	for i := range dst[start:] {
		dst[start+i] ^= mask[i%4]
	}
	return dst
}
