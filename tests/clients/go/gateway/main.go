// Command gateway answers the contract's REST paths with the handlers that grpc-gateway generates from it.
//
//	gateway ADDRESS [CERTIFICATE]    prints its own address, and serves until its standard input ends
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	// The details of failures: what is not linked in cannot be written as JSON.
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	"example.com/app/headgatev1"
)

func main() {
	trust := insecure.NewCredentials()
	if len(os.Args) > 2 {
		var err error
		if trust, err = credentials.NewClientTLSFromFile(os.Args[2], ""); err != nil {
			fail(err)
		}
	}
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(trust))
	if err != nil {
		fail(err)
	}
	json := &runtime.JSONPb{
		MarshalOptions: protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true},
	}
	// Bodies of files pass as they are: google.api.HttpBody.
	mux := runtime.NewServeMux(runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.HTTPBodyMarshaler{Marshaler: json}))
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		headgatev1.RegisterAccountServiceHandler,
		headgatev1.RegisterBalanceServiceHandler,
		headgatev1.RegisterGatewayServiceHandler,
		headgatev1.RegisterKeyServiceHandler,
		headgatev1.RegisterModelServiceHandler,
		headgatev1.RegisterPlanServiceHandler,
		headgatev1.RegisterUsageServiceHandler,
	} {
		if err := register(context.Background(), mux, connection); err != nil {
			fail(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	fmt.Println(listener.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fail(http.Serve(listener, mux))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
