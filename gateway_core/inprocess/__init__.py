"""A grpc.aio.Channel over servicers in this process: the generated stubs work on it, no socket, no copy.

    channel = InProcessChannel()
    add_ChatCompletionServiceServicer_to_server(servicer, channel)
    stub = ChatCompletionServiceStub(channel)

Messages are handed over as the objects they are: neither side may change one that it has handed over. The servicer runs
in the task that awaits the call, and in its context variables: a call costs no task, no queue and no turn of the loop,
and a read suspends only where the servicer does. Deadline, cancellation, metadata and status are those of grpc.aio
over a socket, except that

- a call begins when it is first awaited or read, not when it is made; calls run side by side only where several tasks
  await them;
- the servicer of a stream runs no further than the event that is read: `done()` is false until the end is read;
  `code()`, `details()` and `trailing_metadata()` run it one event further, then wait for the reader;
- whoever awaits anything of a call that nobody else drives drives it, and cancelling that task cancels the call;
- the servicer's clean-up runs before the failure reaches a caller that waits. A servicer that nobody waits for is
  closed by a task of the channel's own: it sees GeneratorExit at its yield, as from `aclose`;
- a servicer that raises CancelledError ends its call with CANCELLED (over a socket the caller waits for ever), and
  `context.cancelled()` and `context.done()` are true after the caller's cancellation and the deadline;
- an exception in a servicer is logged, and nothing of it reaches the caller: UNKNOWN, or the code that the servicer
  set, with the details that it set;
- a servicer that swallows the CancelledError keeps its caller waiting as long as it goes on;
- a call that is dropped is cancelled at once;
- there is no user-agent in the metadata, no limit on the size of messages or metadata, no compression; wait_for_ready
  means nothing, call credentials are refused, and so are streamed requests and servicers that call `context.write`.
"""

from gateway_core.inprocess.channel import InProcessChannel

__all__ = ["InProcessChannel"]
