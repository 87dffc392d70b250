// Command client makes one call and prints, as one line of JSON, all that a caller learns of it.
//
//	client '{"address": "localhost:443", "authority": "ca.pem", "method": "…", "request": {…}, …}'
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	_ "google.golang.org/genproto/googleapis/rpc/errdetails"

	"example.com/app/headgatev1"
)

// Call is what is asked for.
type Call struct {
	Address   string            `json:"address"`
	Authority string            `json:"authority"` // file of a certificate; empty: no TLS
	Method    string            `json:"method"`
	Request   json.RawMessage   `json:"request"` // proto3 JSON
	Metadata  map[string]string `json:"metadata"`
	Seconds   float64           `json:"seconds"`  // until the deadline
	LeaveAt   int               `json:"leave_at"` // messages after which the caller cancels; 0: never
}

// Outcome is what came of it.
type Outcome struct {
	Messages []json.RawMessage `json:"messages"` // proto3 JSON, with the contract's names
	Code     uint32            `json:"code"`
	Message  string            `json:"message"`
	Details  []json.RawMessage `json:"details"`
	Initial  metadata.MD       `json:"initial"`
	Trailing metadata.MD       `json:"trailing"`
}

var written = protojson.MarshalOptions{UseProtoNames: true}

func main() {
	var call Call
	if err := json.Unmarshal([]byte(os.Args[1]), &call); err != nil {
		fail(err)
	}
	trust, err := credentialsOf(call)
	if err != nil {
		fail(err)
	}
	connection, err := grpc.NewClient(call.Address, grpc.WithTransportCredentials(trust))
	if err != nil {
		fail(err)
	}
	defer connection.Close()
	outcome, err := made(connection, call)
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(outcome); err != nil {
		fail(err)
	}
}

func credentialsOf(call Call) (credentials.TransportCredentials, error) {
	if call.Authority == "" {
		return insecure.NewCredentials(), nil
	}
	return credentials.NewClientTLSFromFile(call.Authority, "")
}

func made(connection *grpc.ClientConn, call Call) (*Outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(call.Seconds*float64(time.Second)))
	defer cancel()
	ctx = metadata.NewOutgoingContext(ctx, metadata.New(call.Metadata))
	chat := headgatev1.NewChatCompletionServiceClient(connection)
	outcome := &Outcome{Messages: []json.RawMessage{}, Details: []json.RawMessage{}}
	var failure error
	switch call.Method {
	case "CreateChatCompletion":
		request := &headgatev1.CreateChatCompletionRequest{}
		if err := protojson.Unmarshal(call.Request, request); err != nil {
			return nil, err
		}
		var response *headgatev1.CreateChatCompletionResponse
		options := []grpc.CallOption{grpc.Header(&outcome.Initial), grpc.Trailer(&outcome.Trailing)}
		if response, failure = chat.CreateChatCompletion(ctx, request, options...); failure == nil {
			outcome.add(response)
		}
	case "StreamChatCompletion":
		request := &headgatev1.StreamChatCompletionRequest{}
		if err := protojson.Unmarshal(call.Request, request); err != nil {
			return nil, err
		}
		var stream grpc.ServerStreamingClient[headgatev1.StreamChatCompletionResponse]
		if stream, failure = chat.StreamChatCompletion(ctx, request); failure == nil {
			failure = outcome.read(stream, cancel, call.LeaveAt)
		}
	default:
		return nil, fmt.Errorf("no such method here: %s", call.Method)
	}
	return outcome, outcome.end(failure)
}

func (outcome *Outcome) read(
	stream grpc.ServerStreamingClient[headgatev1.StreamChatCompletionResponse], leave func(), leaveAt int,
) error {
	var failure error
	for {
		response, err := stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				failure = err
			}
			break
		}
		outcome.add(response)
		if len(outcome.Messages) == leaveAt {
			leave()
		}
	}
	outcome.Initial, _ = stream.Header()
	outcome.Trailing = stream.Trailer()
	return failure
}

func (outcome *Outcome) add(message proto.Message) {
	text, err := written.Marshal(message)
	if err != nil {
		fail(err)
	}
	outcome.Messages = append(outcome.Messages, text)
}

// end writes down the status, with the details that the program knows the types of: all that Headgate sends.
func (outcome *Outcome) end(failure error) error {
	told := status.Convert(failure)
	outcome.Code, outcome.Message = uint32(told.Code()), told.Message()
	for _, detail := range told.Proto().GetDetails() {
		text, err := written.Marshal(detail)
		if err != nil {
			return err
		}
		outcome.Details = append(outcome.Details, text)
	}
	return nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
