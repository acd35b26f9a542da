# The whole developer interface; CI calls the same targets. They need root and never call sudo.
.PHONY: setup demo test test-thorough check bench clean lock

setup:
	@scripts/need-root setup
	@scripts/setup test

demo:
	@scripts/need-root demo
	@scripts/setup demo
	@scripts/demo

test:
	@scripts/need-root test
	@scripts/setup test
	@scripts/test

# Every point of every crash, every round.
test-thorough:
	@scripts/need-root test-thorough
	@scripts/setup test
	@CNM_THOROUGH=1 scripts/test

check:
	@scripts/need-root check
	@scripts/setup test
	@scripts/check

bench:
	@scripts/need-root bench
	@scripts/setup test
	@.venv/bin/python -m bench
	@.venv/bin/python -m bench.docker
	@.venv/bin/python -m bench.names
	@.venv/bin/python -m bench.overlay
	@.venv/bin/python -m bench.cluster_scale
	@.venv/bin/python -m bench.launcher
	@.venv/bin/python -m bench.images

clean:
	@scripts/clean

lock:
	@scripts/lock
