package jetstream

import (
	"fmt"
	"strings"
)

// maxPrefix bounds prefixes: with a subject of MaxSubject bytes they stand in one control line.
const maxPrefix = 100

// ValidPrefix reports whether subjects can begin with a text: one or more tokens of the letters that names are made of.
func ValidPrefix(prefix string) bool {
	for token := range strings.SplitSeq(prefix, ".") {
		if !validName(token) {
			return false
		}
	}
	return len(prefix) <= maxPrefix
}

func validName(token string) bool { return token != "" && strings.Trim(token, tokenAlphabet) == "" }

// Validate reports the first name that cannot be, or two subject spaces that overlap.
func (n *Names) Validate() error {
	for _, name := range []string{n.Stream, n.JournalStream, n.JournalSubjects, n.CheckpointSubjects, n.SessionBucket, n.RetainedBucket, n.PresenceBucket, n.QueuePrefix, n.GroupPrefix, n.DelayedStream, n.DelayedSubjects} {
		if !validName(name) {
			return fmt.Errorf("name %q is not made of A-Z a-z 0-9 _ -", name)
		}
	}
	for _, prefix := range []string{n.Subjects, n.LiveSubjects} {
		switch {
		case !ValidPrefix(prefix):
			return fmt.Errorf("%q is not made of tokens of A-Z a-z 0-9 _ -, at most %d bytes", prefix, maxPrefix)
		case strings.HasPrefix(prefix, "_"):
			return fmt.Errorf("subjects %s.> are among those of NATS itself, which begin with _", prefix)
		}
	}
	spaces := n.spaces()
	for i, a := range spaces {
		for _, b := range spaces[i+1:] {
			if subsetOf(a.prefix+".>", b.prefix+".>") || subsetOf(b.prefix+".>", a.prefix+".>") {
				return fmt.Errorf("subjects %s.> of %s and %s.> of %s overlap", a.prefix, a.of, b.prefix, b.of)
			}
		}
	}
	return nil
}

// subjectSpace is all subjects that begin with the tokens of a prefix.
type subjectSpace struct{ of, prefix string }

// spaces are all subjects that are ours.
func (n *Names) spaces() []subjectSpace {
	return []subjectSpace{
		{"the log", n.Subjects},
		{"live messages", n.LiveSubjects},
		{"journals", n.JournalSubjects},
		{"checkpoints", n.CheckpointSubjects},
		{"delayed messages", n.DelayedSubjects},
		{"events and control", controlSubjects},
	}
}

// controlSubjects begin the subjects that are about a node, not about topics: dunlin.event.…, dunlin.ctl.….
const controlSubjects = "dunlin"
