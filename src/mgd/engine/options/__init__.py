"""What a run is: options, their ranges, and the checks that concern several of them.

`option` declares an option as a field; one module per group holds the fields; `config` joins the
groups into a `RunConfig`; `checks` holds the rules between options.
"""
