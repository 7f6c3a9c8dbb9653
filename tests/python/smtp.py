"""A mail server for the tests: aiosmtpd, which answers by script.

Its options are one JSON object: "port" (0 for any), "tls" ("none", "starttls" or "tls") with "certificate" and "key", and "user" with "password".
It prints one JSON object a line: {"port": …} when it listens, then each e-mail that it was handed with what it answered. Each line that it reads is
how it answers one more e-mail: "451 4.3.0 busy", or "slowly 250 2.0.0 taken", which comes after half a minute. It ends with its input.
"""

import asyncio
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

OPTIONS = json.loads(sys.argv[1])
REPLIES = []


def say(what):
    print(json.dumps(what), flush=True)


class Handler:
    async def handle_DATA(self, server, session, envelope):
        reply = REPLIES.pop(0) if REPLIES else "250 2.0.0 taken"
        say(
            {
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "data": envelope.content.decode("ascii"),
                "tls": OPTIONS.get("tls") == "tls" or session.ssl is not None,
                "user": session.auth_data.decode() if session.authenticated else None,
                "hello": session.host_name,
                "reply": reply,
            }
        )
        if reply.startswith("slowly "):
            await asyncio.sleep(30)
        return reply.removeprefix("slowly ")

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        return responses


def authenticate(server, session, envelope, mechanism, data):
    user, password = data.login.decode(), data.password.decode()
    if (user, password) != (OPTIONS["user"], OPTIONS["password"]):
        # Some servers do.
        return AuthResult(success=False, handled=False, message=f"535 5.7.8 {password} is not it")
    return AuthResult(success=True, auth_data=data.login)


async def main():
    tls = OPTIONS.get("tls", "none")
    context = None
    if tls != "none":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(OPTIONS["certificate"], OPTIONS["key"])
    login = {}
    if "user" in OPTIONS:
        login = {"authenticator": authenticate, "auth_required": True, "auth_require_tls": tls == "starttls"}

    def connected():
        return SMTP(
            Handler(),
            hostname="localhost",
            tls_context=context if tls == "starttls" else None,
            require_starttls=tls == "starttls",
            loop=asyncio.get_running_loop(),
            **login,
        )

    server = await asyncio.get_running_loop().create_server(
        connected, "127.0.0.1", OPTIONS.get("port", 0), ssl=context if tls == "tls" else None
    )
    say({"port": server.sockets[0].getsockname()[1]})
    while line := await asyncio.to_thread(sys.stdin.readline):
        REPLIES.append(line.strip())
    # Nobody waits for the other end of a connection that is still open.
    sys.stdout.flush()
    os._exit(0)


asyncio.run(main())
