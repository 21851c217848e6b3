package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"dunlin/sessions"
)

// ErrTopicTooLong: the topic's subject would be longer than MaxSubject.
var ErrTopicTooLong = errors.New("topic too long for storage")

// ErrTopicUnmapped: the topic has no subject in the mapping that is used, which follows.
var ErrTopicUnmapped = errors.New("topic without a subject in mapping")

// errClosed: the write came after, or was unanswered at, Storage.Close.
var errClosed = fmt.Errorf("%w: storage is closed", sessions.ErrUnavailable)

// Server error codes (err_code of the JetStream API) that decide what a failed write means.
const (
	codeWrongLastSequence         = 10071
	codeWrongLastSequenceConstant = 10164
	codeInsufficientResources     = 10023
	codeStorageExceeded           = 10047
	codeStoreFailed               = 10077
	codeHeaderTooLarge            = 10097
	codeNoMessage                 = 10037
	codeNoSuitablePeers           = 10005
	codeReplicasNotSupported      = 10074
	codeStreamLimit               = 10027
	codeSubjectOverlap            = 10065
	codeStreamNameInUse           = 10058
	codeStreamBytesLimit          = 10122
	codeTooManyRequests           = 10167
	codeDuplicateInProcess        = 10158
)

// errInProcess: a message of this identity is on its way to the replicas of the log, sent by another boot, or before by this one. It
// is ahead of what comes now, unless another server takes over before it is stored.
var errInProcess = fmt.Errorf("%w: this message is on its way already", sessions.ErrUnavailable)

// unsure reports whether a write that failed may come again, so that those behind it must not be stored.
func unsure(err error) bool { return errors.Is(err, sessions.ErrUnavailable) }

// apiError is a refusal by the server.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

// err is the refusal as one of the storage errors.
func (e *apiError) err() error {
	kind := sessions.ErrUnavailable
	switch {
	case e.ErrCode == codeWrongLastSequence, e.ErrCode == codeWrongLastSequenceConstant:
		kind = sessions.ErrConflict
	case e.ErrCode == codeStoreFailed && e.Description == server.ErrStoreClosed.Error(): // it goes down; the other replicas may store it
	case e.ErrCode == codeInsufficientResources, e.ErrCode == codeStorageExceeded, e.ErrCode == codeStoreFailed, e.ErrCode == codeHeaderTooLarge,
		e.ErrCode == codeReplicasNotSupported:
		kind = sessions.ErrRejected
	case e.ErrCode == codeDuplicateInProcess:
		kind = errInProcess
	case e.ErrCode == codeTooManyRequests, e.Code == 408, e.Code == 429:
	case e.Code >= 400 && e.Code < 500:
		kind = sessions.ErrRejected // our request is wrong as it stands: repeating it is no help
	}
	return fmt.Errorf("%w: %s (%d)", kind, e.Description, e.ErrCode)
}

// clientErr is a failure of the NATS client as one of the storage errors. The end of a caller's context stays what it is.
func clientErr(err error) error {
	var api *natsjs.APIError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, natsjs.ErrStreamNotFound), errors.Is(err, natsjs.ErrConsumerNotFound), errors.Is(err, natsjs.ErrMsgNotFound):
		return fmt.Errorf("%w: %w", sessions.ErrNotFound, err)
	case errors.As(err, &api):
		return (&apiError{Code: api.Code, ErrCode: int(api.ErrorCode), Description: api.Description}).err()
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrHeadersNotSupported):
		return fmt.Errorf("%w: %w", sessions.ErrRejected, err)
	default:
		return fmt.Errorf("%w: %w", sessions.ErrUnavailable, err)
	}
}
