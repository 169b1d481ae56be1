package rules

// A Pause is called by long work between small pieces of it, some 20 µs each, so that whoever asked for the work can let
// others go first. It is called on the goroutine that does the work. nil is never to pause; its methods are what the
// functions of the same name do.
type Pause func()

// pieceValues is how many values make a piece of work.
const pieceValues = 128

// pieceBytes is how much of a text makes a piece of work that only looks for something in it.
const pieceBytes = 64 << 10

// now calls p.
func (p Pause) now() {
	if p != nil {
		p()
	}
}

// after calls p where the n-th value ends a piece.
func (p Pause) after(n int) {
	if p != nil && n%pieceValues == 0 {
		p()
	}
}
