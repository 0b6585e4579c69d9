package chat

import (
	"slices"
	"strconv"
)

// Nesting of blocks and expressions, and length of a chain such as a.b.c or a + b + c.
const (
	maxNesting = 64
	maxChain   = 256
)

// A node is a statement or an expression.
type node interface{}

type (
	textNode struct {
		line int
		text string
	}
	outputNode struct {
		line int
		expr node
	}
	ifNode struct {
		line   int
		tests  []node
		bodies [][]node // one more than tests when there is an else
	}
	forNode struct {
		line    int
		targets []string
		unpack  bool
		iter    node
		filter  node // nil: none
		body    []node
		other   []node
	}
	setNode struct {
		line      int
		namespace string // not empty: set namespace.targets[0]
		targets   []string
		unpack    bool
		value     node
	}
	jumpNode struct{ stop bool } // break or continue

	literalNode struct{ value any }
	nameNode    struct {
		line int
		name string
	}
	listNode struct {
		line  int
		items []node
		tuple bool
	}
	dictNode struct {
		line         int
		keys, values []node
	}
	attrNode struct {
		line int
		of   node
		name string
	}
	indexNode struct {
		line      int
		of, index node
	}
	sliceNode struct {
		line              int
		of                node
		start, stop, step node // nil: absent
	}
	callNode struct {
		line int
		fn   node
		args arguments
	}
	filterNode struct {
		line int
		of   node
		name string
		args arguments
	}
	testNode struct {
		line int
		of   node
		name string
		args arguments
	}
	unaryNode struct {
		line int
		op   string
		of   node
	}
	binaryNode struct {
		line int
		op   string
		a, b node
	}
	compareNode struct {
		line     int
		first    node
		ops      []string
		operands []node
	}
	condNode struct {
		line           int
		test, yes, not node // not is nil without else
	}
	arguments struct {
		positional []node
		names      []string
		named      []node
	}
)

type parser struct {
	tokens []token
	pos    int
	depth  int
	loops  int
}

// parse turns tokens into statements.
func parse(tokens []token) ([]node, error) {
	p := &parser{tokens: tokens}
	body, _, err := p.statements(nil, token{})
	return body, err
}

func (p *parser) peek() token { return p.tokens[p.pos] }

func (p *parser) next() token {
	t := p.tokens[p.pos]
	if p.pos < len(p.tokens)-1 {
		p.pos++
	}
	return t
}

func (p *parser) is(kind tokenKind, text string) bool {
	t := p.peek()
	return t.kind == kind && t.text == text
}

// accept consumes the token if it is next.
func (p *parser) accept(kind tokenKind, text string) bool {
	if !p.is(kind, text) {
		return false
	}
	p.next()
	return true
}

func (p *parser) expect(kind tokenKind, text string) error {
	if !p.accept(kind, text) {
		return errorAt(p.peek().line, "%q expected, found %s", text, p.peek().describe())
	}
	return nil
}

func (p *parser) name() (token, error) {
	t := p.next()
	if t.kind != tokenName {
		return t, errorAt(t.line, "name expected, found %s", t.describe())
	}
	return t, nil
}

// enter counts one level of nesting; leave ends it.
func (p *parser) enter() error {
	p.depth++
	if p.depth > maxNesting {
		return errorAt(p.peek().line, "nested more than %d deep", maxNesting)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

func (p *parser) chain(n int) error {
	if n > maxChain {
		return errorAt(p.peek().line, "expression has more than %d operations in a row", maxChain)
	}
	return nil
}

// statements parses until a tag whose name is in ends, and returns that tag, consumed up to its name; opener is the tag that is to be closed.
func (p *parser) statements(ends []string, opener token) ([]node, token, error) {
	if err := p.enter(); err != nil {
		return nil, token{}, err
	}
	defer p.leave()
	var body []node
	for {
		switch t := p.next(); t.kind {
		case tokenEOF:
			if ends != nil {
				return nil, t, errorAt(opener.line, "tag %q is not closed", opener.text)
			}
			return body, t, nil
		case tokenData:
			body = append(body, textNode{t.line, t.text})
		case tokenVarBegin:
			e, err := p.tuple()
			if err != nil {
				return nil, t, err
			}
			if err := p.expect(tokenVarEnd, "}}"); err != nil {
				return nil, t, err
			}
			body = append(body, outputNode{t.line, e})
		default: // the lexer gives only beginnings here
			tag, err := p.name()
			if err != nil {
				return nil, t, err
			}
			if slices.Contains(ends, tag.text) {
				return body, tag, nil
			}
			n, err := p.statement(tag)
			if err != nil {
				return nil, t, err
			}
			body = append(body, n)
		}
	}
}

func (p *parser) endTag() error { return p.expect(tokenBlockEnd, "%}") }

func (p *parser) statement(tag token) (node, error) {
	switch tag.text {
	case "if":
		return p.ifTag(tag)
	case "for":
		return p.forTag(tag)
	case "set":
		return p.setTag(tag)
	case "break", "continue":
		if p.loops == 0 {
			return nil, errorAt(tag.line, "%s outside a loop", tag.text)
		}
		return jumpNode{tag.text == "break"}, p.endTag()
	case "elif", "else", "endif", "endfor", "endset":
		return nil, errorAt(tag.line, "tag %q has no opening tag here", tag.text)
	}
	return nil, errorAt(tag.line, "tag %s is not supported", shortQuote(tag.text))
}

func (p *parser) ifTag(tag token) (node, error) {
	n := ifNode{line: tag.line}
	at := tag
	for {
		if at.text != "else" {
			test, err := p.tuple()
			if err != nil {
				return nil, err
			}
			n.tests = append(n.tests, test)
		}
		if err := p.endTag(); err != nil {
			return nil, err
		}
		ends := []string{"elif", "else", "endif"}
		if at.text == "else" {
			ends = ends[2:]
		}
		body, end, err := p.statements(ends, tag)
		if err != nil {
			return nil, err
		}
		n.bodies = append(n.bodies, body)
		if end.text == "endif" {
			return n, p.endTag()
		}
		at = end
	}
}

// assignTargets parses "a" or "a, b" and says whether the value is to be unpacked.
func (p *parser) assignTargets() ([]string, bool, error) {
	paren := p.accept(tokenOp, "(")
	var names []string
	unpack := false
	for {
		t, err := p.name()
		if err != nil {
			return nil, false, err
		}
		if slices.Contains([]string{"true", "false", "none", "True", "False", "None", "loop"}, t.text) {
			return nil, false, errorAt(t.line, "%q cannot be assigned to", t.text)
		}
		names = append(names, t.text)
		if !p.accept(tokenOp, ",") {
			break
		}
		unpack = true
		if p.peek().kind != tokenName || p.is(tokenName, "in") {
			break
		}
	}
	if paren {
		return names, unpack, p.expect(tokenOp, ")")
	}
	return names, unpack, nil
}

func (p *parser) forTag(tag token) (node, error) {
	n := forNode{line: tag.line}
	var err error
	if n.targets, n.unpack, err = p.assignTargets(); err != nil {
		return nil, err
	}
	if err = p.expect(tokenName, "in"); err != nil {
		return nil, err
	}
	if n.iter, err = p.tupleOf(p.or); err != nil { // a condition here would take the loop's if
		return nil, err
	}
	if p.accept(tokenName, "if") {
		if n.filter, err = p.expression(); err != nil {
			return nil, err
		}
	}
	if p.is(tokenName, "recursive") {
		return nil, errorAt(tag.line, "recursive loops are not supported")
	}
	if err = p.endTag(); err != nil {
		return nil, err
	}
	p.loops++
	body, end, err := p.statements([]string{"else", "endfor"}, tag)
	p.loops--
	if err != nil {
		return nil, err
	}
	n.body = body
	if end.text == "else" {
		if err = p.endTag(); err != nil {
			return nil, err
		}
		if n.other, _, err = p.statements([]string{"endfor"}, tag); err != nil {
			return nil, err
		}
	}
	return n, p.endTag()
}

func (p *parser) setTag(tag token) (node, error) {
	n := setNode{line: tag.line}
	var err error
	if n.targets, n.unpack, err = p.assignTargets(); err != nil {
		return nil, err
	}
	if len(n.targets) == 1 && !n.unpack && p.accept(tokenOp, ".") {
		attr, err := p.name()
		if err != nil {
			return nil, err
		}
		n.namespace, n.targets = n.targets[0], []string{attr.text}
	}
	if p.is(tokenBlockEnd, "%}") || p.is(tokenOp, "|") {
		return nil, errorAt(tag.line, `tag "set" without a value (block form) is not supported`)
	}
	if err = p.expect(tokenOp, "="); err != nil {
		return nil, err
	}
	if n.value, err = p.tuple(); err != nil {
		return nil, err
	}
	return n, p.endTag()
}

// tuple parses an expression, or several with commas, which make a tuple.
func (p *parser) tuple() (node, error) { return p.tupleOf(p.expression) }

func (p *parser) tupleOf(item func() (node, error)) (node, error) {
	line := p.peek().line
	first, err := item()
	if err != nil || !p.is(tokenOp, ",") {
		return first, err
	}
	n := listNode{line: line, items: []node{first}, tuple: true}
	for p.accept(tokenOp, ",") {
		if t := p.peek(); t.kind == tokenVarEnd || t.kind == tokenBlockEnd || p.is(tokenOp, ")") {
			break
		}
		e, err := item()
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, e)
	}
	return n, nil
}

// expression parses a condition "a if b else c" or anything that binds closer.
func (p *parser) expression() (node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	e, err := p.or()
	for n := 0; err == nil && p.is(tokenName, "if"); n++ {
		line := p.next().line
		if err = p.chain(n); err != nil {
			break
		}
		c := condNode{line: line, yes: e}
		if c.test, err = p.or(); err != nil {
			break
		}
		if p.accept(tokenName, "else") {
			if c.not, err = p.expression(); err != nil {
				break
			}
		}
		e = c
	}
	return e, err
}

// binary parses operands joined by any of ops, from the left.
func (p *parser) binary(operand func() (node, error), kind tokenKind, ops ...string) (node, error) {
	e, err := operand()
	for n := 0; err == nil && p.peek().kind == kind && slices.Contains(ops, p.peek().text); n++ {
		if err = p.chain(n); err != nil {
			break
		}
		t := p.next()
		var b node
		if b, err = operand(); err == nil {
			e = binaryNode{t.line, t.text, e, b}
		}
	}
	return e, err
}

func (p *parser) or() (node, error)  { return p.binary(p.and, tokenName, "or") }
func (p *parser) and() (node, error) { return p.binary(p.not, tokenName, "and") }

func (p *parser) not() (node, error) {
	if !p.is(tokenName, "not") {
		return p.compare()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	line := p.next().line
	e, err := p.not()
	return unaryNode{line, "not", e}, err
}

func (p *parser) compare() (node, error) {
	first, err := p.sum()
	if err != nil {
		return nil, err
	}
	n := compareNode{line: p.peek().line, first: first}
	for {
		op := ""
		switch t := p.peek(); {
		case t.kind == tokenOp && slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, t.text), p.is(tokenName, "in"):
			op = p.next().text
		case p.is(tokenName, "not") && p.tokens[p.pos+1].kind == tokenName && p.tokens[p.pos+1].text == "in":
			p.next()
			p.next()
			op = "not in"
		}
		if op == "" {
			break
		}
		b, err := p.sum()
		if err != nil {
			return nil, err
		}
		n.ops, n.operands = append(n.ops, op), append(n.operands, b)
	}
	if n.ops == nil {
		return first, nil
	}
	return n, nil
}

func (p *parser) sum() (node, error)    { return p.binary(p.concat, tokenOp, "+", "-") }
func (p *parser) concat() (node, error) { return p.binary(p.product, tokenOp, "~") }
func (p *parser) product() (node, error) {
	e, err := p.binary(p.filtered, tokenOp, "*", "/", "//", "%")
	if err == nil && p.is(tokenOp, "**") {
		return nil, errorAt(p.peek().line, `operator "**" is not supported`)
	}
	return e, err
}

// filtered parses a unary expression with the filters and tests that follow it: they bind closer than every binary operator.
func (p *parser) filtered() (node, error) {
	e, err := p.unary()
	for n := 0; err == nil; n++ {
		if err = p.chain(n); err != nil {
			break
		}
		switch {
		case p.accept(tokenOp, "|"):
			e, err = p.filter(e)
		case p.is(tokenName, "is"):
			e, err = p.test(e)
		case p.is(tokenOp, "("):
			e, err = p.call(e)
		default:
			return e, nil
		}
	}
	return e, err
}

func (p *parser) unary() (node, error) {
	t := p.peek()
	if t.kind != tokenOp || t.text != "-" && t.text != "+" {
		e, err := p.primary()
		if err != nil {
			return nil, err
		}
		return p.postfix(e)
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	p.next()
	e, err := p.unary()
	return unaryNode{t.line, t.text, e}, err
}

func (p *parser) filter(of node) (node, error) {
	t, err := p.name()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(filterNames, t.text) {
		return nil, errorAt(t.line, "filter %s is not supported", shortQuote(t.text))
	}
	n := filterNode{line: t.line, of: of, name: t.text}
	if p.is(tokenOp, "(") {
		n.args, err = p.arguments()
	}
	if err == nil {
		err = p.knownTest(t, n.args)
	}
	return n, err
}

// knownTest checks the name of the test that select and its like are given, when it is written out.
func (p *parser) knownTest(t token, args arguments) error {
	at := map[string]int{"select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}
	i, takesTest := at[t.text]
	if !takesTest || i >= len(args.positional) {
		return nil
	}
	if l, ok := args.positional[i].(literalNode); ok {
		if s, _ := l.value.(string); !slices.Contains(testNames, s) {
			return errorAt(t.line, "test %s of filter %s is not supported", shortQuote(s), t.text)
		}
	}
	return nil
}

func (p *parser) test(of node) (node, error) {
	p.next() // is
	negated := p.accept(tokenName, "not")
	t, err := p.name()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(testNames, t.text) {
		return nil, errorAt(t.line, "test %s is not supported", shortQuote(t.text))
	}
	n := testNode{line: t.line, of: of, name: t.text}
	switch a := p.peek(); {
	case p.is(tokenOp, "("):
		n.args, err = p.arguments()
	case a.kind == tokenString, a.kind == tokenInt, a.kind == tokenFloat, p.is(tokenOp, "["), p.is(tokenOp, "{"),
		a.kind == tokenName && !slices.Contains([]string{"else", "or", "and"}, a.text):
		if p.is(tokenName, "is") {
			return nil, errorAt(a.line, "tests cannot follow each other with is")
		}
		var arg node
		if arg, err = p.primary(); err == nil {
			arg, err = p.postfix(arg)
		}
		n.args.positional = []node{arg}
	}
	if negated {
		return unaryNode{t.line, "not", n}, err
	}
	return n, err
}

// arguments parses a call's arguments with their parentheses.
func (p *parser) arguments() (arguments, error) {
	var a arguments
	p.next() // (
	for !p.accept(tokenOp, ")") {
		if len(a.positional)+len(a.named) > 0 {
			if err := p.expect(tokenOp, ","); err != nil {
				return a, err
			}
			if p.accept(tokenOp, ")") {
				break
			}
		}
		t := p.peek()
		if t.kind == tokenOp && (t.text == "*" || t.text == "**") {
			return a, errorAt(t.line, "argument with %q is not supported", t.text)
		}
		if after := p.tokens[min(p.pos+1, len(p.tokens)-1)]; t.kind == tokenName && after.kind == tokenOp && after.text == "=" {
			p.next()
			p.next()
			if slices.Contains(a.names, t.text) {
				return a, errorAt(t.line, "argument %s is given twice", shortQuote(t.text))
			}
			e, err := p.expression()
			if err != nil {
				return a, err
			}
			a.names, a.named = append(a.names, t.text), append(a.named, e)
			continue
		}
		if len(a.names) > 0 {
			return a, errorAt(t.line, "argument without name after one with a name")
		}
		e, err := p.expression()
		if err != nil {
			return a, err
		}
		a.positional = append(a.positional, e)
	}
	return a, nil
}

func (p *parser) call(fn node) (node, error) {
	line := p.peek().line
	switch f := fn.(type) {
	case attrNode:
		if !slices.Contains(methodNames, f.name) {
			return nil, errorAt(f.line, "method %s is not supported", shortQuote(f.name))
		}
	case nameNode:
		if slices.Contains([]string{"range", "dict", "lipsum", "cycler", "joiner", "caller", "super", "_"}, f.name) {
			return nil, errorAt(f.line, "function %s is not supported", shortQuote(f.name))
		}
	}
	args, err := p.arguments()
	return callNode{line, fn, args}, err
}

func (p *parser) postfix(e node) (node, error) {
	for n := 0; ; n++ {
		if err := p.chain(n); err != nil {
			return nil, err
		}
		var err error
		switch {
		case p.accept(tokenOp, "."):
			t := p.next()
			switch t.kind {
			case tokenName:
				e = attrNode{t.line, e, t.text}
			case tokenInt:
				var i int64
				if i, err = strconv.ParseInt(t.text, 10, 64); err != nil {
					return nil, errorAt(t.line, "integer %s is out of the 64-bit range", shortQuote(t.text))
				}
				e = indexNode{t.line, e, literalNode{i}}
			default:
				return nil, errorAt(t.line, "name expected, found %s", t.describe())
			}
		case p.is(tokenOp, "["):
			e, err = p.subscript(e)
		case p.is(tokenOp, "("):
			e, err = p.call(e)
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) subscript(of node) (node, error) {
	line := p.next().line
	var parts [3]node
	i, colons := 0, 0
	for !p.accept(tokenOp, "]") {
		if p.accept(tokenOp, ":") {
			i++
			colons++
			if i > 2 {
				return nil, errorAt(line, "slice with more than two colons")
			}
			continue
		}
		if parts[i] != nil {
			return nil, errorAt(p.peek().line, `"]" expected, found %s`, p.peek().describe())
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		parts[i] = e
	}
	if colons > 0 {
		return sliceNode{line, of, parts[0], parts[1], parts[2]}, nil
	}
	if parts[0] == nil {
		return nil, errorAt(line, "subscript is empty")
	}
	return indexNode{line, of, parts[0]}, nil
}

func (p *parser) primary() (node, error) {
	t := p.next()
	switch t.kind {
	case tokenName:
		switch t.text {
		case "true", "True":
			return literalNode{true}, nil
		case "false", "False":
			return literalNode{false}, nil
		case "none", "None":
			return literalNode{nil}, nil
		}
		return nameNode{t.line, t.text}, nil
	case tokenString:
		if p.peek().kind != tokenString {
			return literalNode{t.text}, nil
		}
		b := []byte(t.text)
		for p.peek().kind == tokenString { // neighbours make one string
			b = append(b, p.next().text...)
		}
		return literalNode{string(b)}, nil
	case tokenInt:
		i, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			return nil, errorAt(t.line, "integer %s is out of the 64-bit range", shortQuote(t.text))
		}
		return literalNode{i}, nil
	case tokenFloat:
		f, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			return nil, errorAt(t.line, "number %s is out of range", shortQuote(t.text))
		}
		return literalNode{f}, nil
	case tokenOp:
		switch t.text {
		case "(":
			if p.accept(tokenOp, ")") {
				return listNode{line: t.line, tuple: true}, nil
			}
			e, err := p.tuple()
			if err != nil {
				return nil, err
			}
			return e, p.expect(tokenOp, ")")
		case "[":
			return p.list(t.line)
		case "{":
			return p.dict(t.line)
		}
	}
	return nil, errorAt(t.line, "expression expected, found %s", t.describe())
}

func (p *parser) list(line int) (node, error) {
	n := listNode{line: line}
	for !p.accept(tokenOp, "]") {
		if len(n.items) > 0 {
			if err := p.expect(tokenOp, ","); err != nil {
				return nil, err
			}
			if p.accept(tokenOp, "]") {
				break
			}
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, e)
	}
	return n, nil
}

func (p *parser) dict(line int) (node, error) {
	n := dictNode{line: line}
	for !p.accept(tokenOp, "}") {
		if len(n.keys) > 0 {
			if err := p.expect(tokenOp, ","); err != nil {
				return nil, err
			}
			if p.accept(tokenOp, "}") {
				break
			}
		}
		k, err := p.expression()
		if err != nil {
			return nil, err
		}
		if err = p.expect(tokenOp, ":"); err != nil {
			return nil, err
		}
		v, err := p.expression()
		if err != nil {
			return nil, err
		}
		n.keys, n.values = append(n.keys, k), append(n.values, v)
	}
	return n, nil
}
