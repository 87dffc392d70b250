// Makes one call and prints, as one line of JSON, all that a caller learns of it.
//
//   node client.js '{"address": "localhost:443", "authority": "ca.pem", "method": "…", "request": {…}, …}'
//
// The contract is read from its proto files when the program starts: nothing is generated.
import {readFileSync} from "node:fs";
import {fileURLToPath} from "node:url";
import grpc from "@grpc/grpc-js";
import {loadSync} from "@grpc/proto-loader";
import protobuf from "protobufjs";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const roots = [here("proto"), here("googleapis")];
const asJson = {keepCase: true, longs: String, enums: String, bytes: String};

function connected({address, authority}) {
  const contract = loadSync("headgate/v1/chat_completion_service.proto", {...asJson, includeDirs: roots});
  const {ChatCompletionService} = grpc.loadPackageDefinition(contract).headgate.v1;
  const trust = authority ? grpc.credentials.createSsl(readFileSync(authority)) : grpc.credentials.createInsecure();
  return new ChatCompletionService(address, trust);
}

function made(client, {method, request, metadata, seconds, leave_at}) {
  const outcome = {messages: [], code: 0, message: "", details: [], initial: {}, trailing: {}};
  const sent = grpc.Metadata.fromHttp2Headers(metadata);
  const options = {deadline: Date.now() + seconds * 1000};
  return new Promise((resolve) => {
    const isStream = client[method].responseStream;
    const call = isStream
      ? client[method](request, sent, options)
      : client[method](request, sent, options, (error, response) => error || outcome.messages.push(response));
    call.on("metadata", (initial) => (outcome.initial = listed(initial)));
    call.on("status", ({code, details, metadata}) => {
      const told = {code, message: details, details: errorDetails(metadata), trailing: listed(metadata)};
      // After the last message, or the answer of a unary call, has been handed over.
      setImmediate(() => resolve(Object.assign(outcome, told)));
    });
    if (isStream) {
      call.on("error", () => {}); // the status tells it
      call.on("data", (message) => outcome.messages.push(message) === leave_at && call.cancel());
    }
  });
}

const listed = (metadata) =>
  Object.fromEntries(Object.keys(metadata.getMap()).map((name) => [name, metadata.get(name).map(String)]));

function errorDetails(metadata) {
  const [bytes] = metadata.get("grpc-status-details-bin");
  if (!bytes) return [];
  const types = new protobuf.Root();
  types.resolvePath = (_, path) => (path.startsWith("google/protobuf/") ? path : `${roots[1]}/${path}`);
  types.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"]);
  return types
    .lookupType("google.rpc.Status")
    .decode(bytes)
    .details.map(({type_url, value}) => {
      const type = types.lookupType(type_url.slice(type_url.lastIndexOf("/") + 1));
      return {"@type": type_url, ...type.toObject(type.decode(value), {longs: String})};
    });
}

const call = JSON.parse(process.argv[2]);
const client = connected(call);
console.log(JSON.stringify(await made(client, call)));
client.close();
