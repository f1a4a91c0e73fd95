# The pages.
FROM node:22-bookworm-slim AS web
WORKDIR /src/web
COPY web/package.json web/package-lock.json ./
COPY web/sdk/package.json sdk/
COPY web/app/package.json app/
RUN npm ci --no-audit --no-fund
COPY web ./
RUN npm run build

# The server.
FROM rust:1.95-bookworm AS server
RUN apt-get update && apt-get install -y --no-install-recommends \
      cmake clang libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
COPY --from=web /src/web/dist web/dist
RUN cargo build --release --locked && install -D target/release/fanlight /out/fanlight

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
      ca-certificates curl gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
      gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav \
      gstreamer1.0-x fonts-dejavu-core fonts-noto-ui-core fonts-wqy-microhei fonts-noto-color-emoji \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/fanlight fanlight
COPY --from=server /out/fanlight /usr/local/bin/fanlight
USER fanlight
ENV FANLIGHT_DATA_DIR=/var/lib/fanlight
VOLUME /var/lib/fanlight
EXPOSE 8080/tcp 7000-7063/udp 7000/tcp
HEALTHCHECK --interval=10s --timeout=3s CMD curl -fsSk http://localhost:8080/healthz || curl -fsSk https://localhost:8080/healthz
ENTRYPOINT ["fanlight"]
CMD ["serve"]
