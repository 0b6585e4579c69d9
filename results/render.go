package results

import (
	"bufio"
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Formats are the forms in which a Table can be written, by the name that users
// give and the extension of files.
var Formats = []struct {
	Name, Extension string
	Write           func(*Table, io.Writer) error
}{
	{"markdown", ".md", (*Table).Markdown},
	{"csv", ".csv", (*Table).CSV},
	{"latex", ".tex", (*Table).LaTeX},
}

// Markdown writes t as an aligned pipe table, with the title above it and the notes
// as a list below.
func (t *Table) Markdown(w io.Writer) error {
	b := bufio.NewWriter(w)
	escape := strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ")
	grid := make([][]string, 1, len(t.Rows)+1)
	for _, c := range t.Columns {
		grid[0] = append(grid[0], escape.Replace(c.Name))
	}
	for _, row := range t.Rows {
		var line []string
		for i := range row {
			s := escape.Replace(t.Columns[i].format(&row[i]))
			if row[i].Best {
				s = "**" + s + "**"
			}
			line = append(line, s)
		}
		grid = append(grid, line)
	}
	width := make([]int, len(t.Columns))
	for _, line := range grid {
		for i, s := range line {
			width[i] = max(width[i], utf8.RuneCountInString(s), 3)
		}
	}
	b.WriteString(t.Title + "\n\n")
	for k, line := range grid {
		for i, s := range line {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(s))
			if t.Columns[i].Numeric {
				s = pad + s
			} else {
				s += pad
			}
			b.WriteString("| " + s + " ")
		}
		b.WriteString("|\n")
		if k > 0 {
			continue
		}
		for i, c := range t.Columns {
			rule := strings.Repeat("-", width[i])
			if c.Numeric {
				rule = rule[1:] + ":"
			}
			b.WriteString("| " + rule + " ")
		}
		b.WriteString("|\n")
	}
	for i, n := range t.Notes {
		if i == 0 {
			b.WriteString("\n")
		}
		b.WriteString("- " + strings.NewReplacer("\n", " ", "\r", " ").Replace(n) + "\n")
	}
	return b.Flush()
}

// CSV writes t as comma-separated values with a heading line. Numbers are in
// full precision; a standard error has the column behind its value.
func (t *Table) CSV(w io.Writer) error {
	c := csv.NewWriter(w)
	var line []string
	for _, col := range t.Columns {
		line = append(line, col.Name)
		if col.WithStderr {
			line = append(line, col.Name+" stderr")
		}
	}
	if err := c.Write(line); err != nil {
		return err
	}
	full := func(v *float64) string {
		if v == nil {
			return ""
		}
		return strconv.FormatFloat(*v, 'g', -1, 64)
	}
	for _, row := range t.Rows {
		line = line[:0]
		for i := range row {
			if row[i].isNumber() {
				line = append(line, full(row[i].Number))
			} else {
				line = append(line, row[i].Text)
			}
			if t.Columns[i].WithStderr {
				line = append(line, full(row[i].Stderr))
			}
		}
		if err := c.Write(line); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

var latexEscape = strings.NewReplacer(
	`\`, `\textbackslash{}`, `{`, `\{`, `}`, `\}`, `$`, `\$`, `&`, `\&`, `#`, `\#`,
	`^`, `\textasciicircum{}`, `_`, `\_`, `~`, `\textasciitilde{}`, `%`, `\%`,
	`<`, `\textless{}`, `>`, `\textgreater{}`, `|`, `\textbar{}`, `"`, `\textquotedbl{}`,
	"±", `$\pm$`, "↑", `$\uparrow$`, "↓", `$\downarrow$`, "–", "--", "\n", " ", "\r", " ",
)

// LaTeX writes t as a table environment. It needs \usepackage{booktabs} and, for
// quotation marks in an error text, \usepackage[T1]{fontenc}.
func (t *Table) LaTeX(w io.Writer) error {
	b := bufio.NewWriter(w)
	spec := ""
	for _, c := range t.Columns {
		if c.Numeric {
			spec += "r"
		} else {
			spec += "l"
		}
	}
	b.WriteString("\\begin{table}\n\\centering\n\\caption{" + latexEscape.Replace(t.Title) + "}\n\\label{tab:" + t.Name + "}\n")
	b.WriteString("\\begin{tabular}{" + spec + "}\n\\toprule\n")
	line := func(cells []string) { b.WriteString(strings.Join(cells, " & ") + " \\\\\n") }
	var head []string
	for _, c := range t.Columns {
		head = append(head, latexEscape.Replace(c.Name))
	}
	line(head)
	b.WriteString("\\midrule\n")
	for _, row := range t.Rows {
		var cells []string
		for i := range row {
			s := latexEscape.Replace(t.Columns[i].format(&row[i]))
			if row[i].Best {
				s = `\textbf{` + s + `}`
			}
			cells = append(cells, s)
		}
		line(cells)
	}
	b.WriteString("\\bottomrule\n\\end{tabular}\n")
	for _, n := range t.Notes {
		b.WriteString("\\par{\\footnotesize " + latexEscape.Replace(n) + "\\par}\n")
	}
	b.WriteString("\\end{table}\n")
	return b.Flush()
}
