"""/docs: the API's description as a page to try it on, with nothing in it from elsewhere.

People type API keys there, so no script from elsewhere runs in it. It works in a cluster without internet.
Swagger UI's files are those of the package fastapi-swagger, which has them as they were published; its hash
is in the image's lock, and none of its functions is called.
"""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
# Swagger UI sets styles and has icons as data in it; of scripts only files from here run.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Addresses without a leading slash: an ingress may serve all of it below a path.
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Embedfleet API</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"><noscript>Without scripts: <a href="openapi.json">openapi.json</a>.</noscript></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# Without `validatorUrl: null` it would send the description to swagger.io for a badge.
START = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def page() -> HTMLResponse:
    """Answer the page."""
    return HTMLResponse(PAGE, headers=HEADERS)


@router.get("/docs/start.js")
async def start() -> Response:
    """Answer the script that shows the description."""
    return Response(START, media_type="text/javascript", headers=HEADERS)


def _asset(name: str, media_type: str) -> None:
    @router.get(f"/docs/{name}")
    async def asset() -> FileResponse:
        folder = Path(str(files("fastapi_swagger"))) / "resources"
        return FileResponse(folder / name, media_type=media_type, headers=HEADERS)


for _name, _type in ASSETS.items():
    _asset(_name, _type)
