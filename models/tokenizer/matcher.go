package tokenizer

import "strings"

// matched is what a matcher finds: a token and how it treats the text around it.
type matched struct {
	id             int32
	special        bool // found only when special tokens are parsed
	lstrip, rstrip bool // swallows the white space before or behind it
}

// matcher finds fixed texts, leftmost first and the longest of those that begin at the same place, as the Aho-Corasick
// automaton of the Hugging Face library and the prefix matcher of SentencePiece do.
type matcher struct {
	first [256]int32 // node of a first byte, 0 if no text begins with it
	nodes []matcherNode
	plain bool // some text is to be found even when special tokens are not parsed
}

// matcherNode is a node of a trie over bytes; its children are a linked list, since nearly all have one.
type matcherNode struct {
	char           byte
	found          bool
	child, sibling int32 // 0 if there is none
	as             matched
}

func newMatcher() *matcher { return &matcher{nodes: make([]matcherNode, 1)} }

func (m *matcher) empty() bool { return len(m.nodes) == 1 }

// next returns the child of a node for a byte, 0 if there is none. Node 0 is the root.
func (m *matcher) next(at int32, c byte) int32 {
	if at == 0 {
		return m.first[c]
	}
	for at = m.nodes[at].child; at != 0 && m.nodes[at].char != c; at = m.nodes[at].sibling {
	}
	return at
}

// add makes text known, which must not be empty. Of two equal texts the first counts.
func (m *matcher) add(text string, as matched) {
	m.plain = m.plain || !as.special
	at := int32(0)
	for i := range len(text) {
		to := m.next(at, text[i])
		if to == 0 {
			to = int32(len(m.nodes))
			n := matcherNode{char: text[i]}
			if at == 0 {
				m.first[text[i]] = to
			} else {
				n.sibling, m.nodes[at].child = m.nodes[at].child, to
			}
			m.nodes = append(m.nodes, n)
		}
		at = to
	}
	if n := &m.nodes[at]; !n.found {
		n.found, n.as = true, as
	}
}

// match returns the longest known text at the start of s, with length 0 if there is none.
func (m *matcher) match(s string) (as matched, length int) {
	at := int32(0)
	for i := range len(s) {
		if at = m.next(at, s[i]); at == 0 {
			break
		}
		if n := &m.nodes[at]; n.found {
			as, length = n.as, i+1
		}
	}
	return as, length
}

// longest returns the length of the longest known text at the start of s.
func (m *matcher) longest(s string) int {
	_, n := m.match(s)
	return n
}

// split calls f for the parts of s in order: a part that is a known text has its id, any other part has id -1; no part
// is empty. offset is the part's position in s. With parse false, special tokens are passed over as the Hugging Face
// library does it: the search goes on behind them.
func (m *matcher) split(s string, parse bool, f func(part string, offset int, id int32)) {
	if m.empty() || !parse && !m.plain {
		if s != "" {
			f(s, 0, -1)
		}
		return
	}
	done := 0 // everything before is given out
	for i := 0; i < len(s); {
		if m.first[s[i]] == 0 {
			i++
			continue
		}
		as, n := m.match(s[i:])
		if n == 0 {
			i++
			continue
		}
		from, to := i, i+n
		i = to
		if as.special && !parse {
			continue
		}
		if as.lstrip {
			from = max(done, len(strings.TrimRightFunc(s[:from], isWhiteSpace)))
		}
		if as.rstrip {
			to = len(s) - len(strings.TrimLeftFunc(s[to:], isWhiteSpace))
		}
		if done < from {
			f(s[done:from], done, -1)
		}
		f(s[from:to], from, as.id)
		// As in the library the search goes on behind the text itself, so that a token can begin inside the white space
		// that the one before has swallowed.
		done = to
	}
	if done < len(s) {
		f(s[done:], done, -1)
	}
}
