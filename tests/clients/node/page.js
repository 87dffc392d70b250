// The page's program: makes the call that its own server tells it of, in gRPC-Web, and tells what came of it.
import {ConnectError, createClient} from "@connectrpc/connect";
import {createGrpcWebTransport} from "@connectrpc/connect-web";
import {fromJson, toJson} from "@bufbuild/protobuf";
import {ErrorInfoSchema} from "./generated/google/rpc/error_details_pb.js";
import {ChatCompletionService} from "./generated/headgate/v1/chat_completion_service_pb.js";

async function made({address, method, request, metadata, seconds, leave_at}) {
  const outcome = {messages: [], code: 0, message: "", details: [], initial: {}, trailing: {}};
  const chat = createClient(ChatCompletionService, createGrpcWebTransport({baseUrl: `https://${address}`}));
  const {input, output, methodKind, localName} = ChatCompletionService.methods.find(({name}) => name === method);
  const leaving = new AbortController();
  const options = {
    headers: metadata,
    timeoutMs: seconds * 1000,
    signal: leaving.signal,
    onHeader: (headers) => (outcome.initial = listed(headers)),
    onTrailer: (trailers) => (outcome.trailing = listed(trailers)),
  };
  const add = (message) => outcome.messages.push(toJson(output, message, {useProtoFieldName: true}));
  try {
    const answer = chat[localName](fromJson(input, request), options);
    if (methodKind === "unary") add(await answer);
    else for await (const message of answer) if (add(message) === leave_at) leaving.abort();
  } catch (thrown) {
    const error = ConnectError.from(thrown);
    Object.assign(outcome, {code: error.code, message: error.rawMessage, trailing: listed(error.metadata)});
    outcome.details = error.findDetails(ErrorInfoSchema).map((info) => ({
      "@type": "type.googleapis.com/google.rpc.ErrorInfo",
      ...toJson(ErrorInfoSchema, info),
    }));
  }
  return outcome;
}

const listed = (headers) => Object.fromEntries([...headers].map(([name, value]) => [name, value.split(", ")]));

const call = await (await fetch("/call")).json();
const outcome = await made(call).catch((fault) => ({fault: String(fault?.stack ?? fault)}));
await fetch("/outcome", {method: "POST", body: JSON.stringify(outcome)});
