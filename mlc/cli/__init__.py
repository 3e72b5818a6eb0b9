"""The command line tool: `mlc <verb>`. Each verb is one module, imported only when it is called."""
