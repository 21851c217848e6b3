package sessions

import (
	"iter"
	"strings"
)

const (
	// levelListMax is how many children are kept as a list, which is smaller than a map and as quick.
	levelListMax = 8
	// levelMapMin is how few children make a list of a map again.
	levelMapMin = levelListMax / 2
)

// LevelMap holds the children of one node of a tree of topics or topic filters, by topic level. Most nodes have one
// child or a few, some have a million: neither may cost what the other needs. The zero value is empty and holds no
// memory. Not safe for concurrent use, but for several readers.
type LevelMap[Node any] struct {
	list []levelChild[Node] // while there are few
	many map[string]*Node   // nil while there are few
}

type levelChild[Node any] struct {
	level string
	node  *Node
}

// Child is the child at a level, nil when there is none.
func (m *LevelMap[Node]) Child(level string) *Node {
	if m.many != nil {
		return m.many[level]
	}
	for i := range m.list {
		if m.list[i].level == level {
			return m.list[i].node
		}
	}
	return nil
}

// ChildOrNew is the child at a level, made if there was none. It keeps no reference to the memory of level, which may
// be a part of something much larger.
func (m *LevelMap[Node]) ChildOrNew(level string) *Node {
	if node := m.Child(level); node != nil {
		return node
	}
	node := new(Node)
	level = strings.Clone(level)
	if m.many == nil && len(m.list) == levelListMax {
		m.many = make(map[string]*Node, 2*levelListMax)
		for _, c := range m.list {
			m.many[c.level] = c.node
		}
		m.list = nil
	}
	if m.many != nil {
		m.many[level] = node
	} else {
		m.list = append(m.list, levelChild[Node]{level, node})
	}
	return node
}

// Delete removes the child at a level, if there is one.
func (m *LevelMap[Node]) Delete(level string) {
	if m.many != nil {
		delete(m.many, level)
		if len(m.many) <= levelMapMin {
			for level, node := range m.many {
				m.list = append(m.list, levelChild[Node]{level, node})
			}
			m.many = nil
		}
		return
	}
	for i := range m.list {
		if m.list[i].level == level {
			last := len(m.list) - 1
			m.list[i], m.list[last] = m.list[last], levelChild[Node]{}
			m.list = m.list[:last]
			break
		}
	}
	if len(m.list) == 0 {
		m.list = nil
	}
}

// Len is the number of children.
func (m *LevelMap[Node]) Len() int { return len(m.list) + len(m.many) }

// All visits the children in no certain order. The map must not be changed meanwhile.
func (m *LevelMap[Node]) All() iter.Seq2[string, *Node] {
	return func(yield func(string, *Node) bool) {
		for _, c := range m.list {
			if !yield(c.level, c.node) {
				return
			}
		}
		for level, node := range m.many {
			if !yield(level, node) {
				return
			}
		}
	}
}
