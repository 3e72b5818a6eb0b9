"""What verbs do in the child process. A job is `job(request, report) -> answer`, request and answer plain JSON."""
