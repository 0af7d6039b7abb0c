"""A task that runs a jar: pi to the number of digits asked for."""


def do_action(engine, digits):
    lines = engine.java_runner("pi.jar", digits)
    return {"digits": int(digits), "last ten": lines[0][-10:]}
