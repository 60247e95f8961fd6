def includeme(config):
    config.add_route("notes", "/notes")
