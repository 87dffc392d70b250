"""The contexts of listeners that speak TLS, as the files say when a connection begins."""

import ssl

from gateway_core.tls_files import TlsFiles


def renewed_context(files: TlsFiles, protocol: str) -> ssl.SSLContext:
    """The context of a listener, in which each new connection is served as the files say then.

    Takes the name of what is spoken inside (ALPN): "h2", "http/1.1".
    """
    shown = files.current()
    context = first = server_context(files, protocol)

    def renewed(handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal shown, context
        found = files.current()
        if found is not shown:
            try:
                context = server_context(files, protocol)
                shown = found
            except (OSError, ssl.SSLError) as error:
                files.keep(f"{files.key}: cannot be taken: {error}")
        # Also who may sign clients is then that of the new context (SSL_set_SSL_CTX(3)).
        handshake.context = context

    # OpenSSL asks it in each handshake, whether or not a client names whom it means.
    first.sni_callback = renewed
    return first


def server_context(files: TlsFiles, protocol: str) -> ssl.SSLContext:
    """A context with what is in the files; raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([protocol])
    context.load_cert_chain(files.config.certificate, files.config.private_key, password="")
    if files.config.client_authorities is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.config.client_authorities)
        # Who resumes a session is not asked again who he is, also where his authority is believed no more.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context
