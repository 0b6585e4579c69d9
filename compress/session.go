package compress

import "fmt"

// Session is one end of a stream of split1 messages that learns its tables on
// the way: both ends take in the codes of every message, and at the places they
// agree on, for example after the prompt, both call [Session.Train]. Nothing but
// the messages travels; a decoder that missed one or trained elsewhere finds
// another tables number in the next message and refuses it.
//
// What a session keeps of the rows is a byte per value, at most 64 MiB; later
// rows are coded but not learned from.
//
// A session is for one direction of one stream, and not for concurrent use.
type Session struct {
	reading reading
	given   *Tables
	tables  *Tables
	sample  *sample
	scratch scratch
}

// NewSession returns a session that begins with the tables of o, or those built
// in. It fails on options that are not valid.
func NewSession(o Options) (*Session, error) {
	r, err := o.reading()
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return &Session{reading: r, given: o.Tables, tables: o.Tables}, nil
}

// Tables returns the tables in use, nil for those built in.
func (s *Session) Tables() *Tables { return s.tables }

// Encode appends the message of m, as [Codec].Encode does, and takes in its
// codes. On an error nothing is taken in.
func (s *Session) Encode(dst []byte, m Matrix) ([]byte, Parts, error) {
	q := &s.scratch.quantised
	if err := q.quantise(m, &s.reading); err != nil {
		return dst, Parts{}, err
	}
	if err := s.fits(m.Cols); err != nil {
		return dst, Parts{}, fmt.Errorf("compress: %w", err)
	}
	dst, parts := s.scratch.appendSplit1(dst, s.tables, &s.reading)
	s.learn(q)
	return dst, parts, nil
}

// Decode restores a message, as [Codec].Decode does, and takes in its codes. On
// an error nothing is taken in.
func (s *Session) Decode(dst []float32, msg []byte) (Matrix, error) {
	s.scratch.keepCodes = true
	m, err := decodeSplit1(dst, msg, s.tables, &s.scratch, MaxValues)
	if err != nil {
		return Matrix{}, err
	}
	if err := s.fits(m.Cols); err != nil {
		return Matrix{}, messageError("%w", err)
	}
	s.learn(&s.scratch.quantised)
	return m, nil
}

// fits checks a message's columns against those of the stream.
func (s *Session) fits(cols int) error {
	switch {
	case cols > maxTableCols:
		return fmt.Errorf("matrix of %d columns, a session takes at most %d", cols, maxTableCols)
	case s.tables != nil && cols != s.tables.cols:
		return fmt.Errorf("matrix of %d columns, the tables are for %d", cols, s.tables.cols)
	case s.sample != nil && cols != s.sample.cols:
		return fmt.Errorf("matrix of %d columns in a stream of %d", cols, s.sample.cols)
	}
	return nil
}

func (s *Session) learn(q *Quantised) {
	if q.Cols == 0 {
		return
	}
	if s.sample == nil {
		s.sample = newSample(q.Cols)
	}
	s.sample.add(q, nil)
}

// Train replaces the tables by those learned from all rows since the session
// began or was reset. It fails, changing nothing, when no row had a code. The
// sums of both ends are the same, in integers, and so are the tables; they hold
// no centroids, which a decoder cannot know.
func (s *Session) Train() error {
	if s.sample == nil {
		return fmt.Errorf("compress: session has seen no rows, nothing to learn")
	}
	t, err := s.sample.tables()
	if err != nil {
		return err
	}
	s.tables = t
	return nil
}

// Reset goes back to the state after NewSession: the tables given, nothing
// learned. Both ends must do it at the same place.
func (s *Session) Reset() { s.tables, s.sample = s.given, nil }
